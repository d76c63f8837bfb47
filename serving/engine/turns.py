"""Whose turn it is to compute: models share the CPU budget by how much work waits for each.

Engine calls of all models draw on one number of threads, so that two busy models take turns instead of slowing each
other down within each call. A model's share follows its backlog: all of them would be done at about the same time, and
a model with little to do is never kept waiting by one with much. Nor by one whose calls are long: whoever has waited
for `PATIENCE_SECONDS` computes beside it, and the operating system shares the cores.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 0.02
"""Two calls of the length that a tick should have."""


class Member:
    """One model's place among the others.

    Attributes:
        served: seconds of the engine that it had, each divided by its backlog at that time; the least goes next.
    """

    def __init__(self) -> None:
        self.served = 0.0


class Turns:
    """A number of threads, handed out to engine calls.

    Source: virtual time of weighted fair queueing (Demers, Keshav, Shenker, "Analysis and Simulation of a Fair Queueing
    Algorithm", SIGCOMM 1989), with the backlog as the weight.
    """

    def __init__(self, threads: int, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Share so many threads; who has waited for so long goes beside the others."""
        self._patience_seconds = patience_seconds
        self._free = threads
        self._threads = threads
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []
        self._now = 0.0
        """What the member that was served last had had by then."""

    @contextmanager
    def turn(self, member: Member, *, threads: int) -> Iterator[None]:
        """Hold threads inside, after a wait for whoever has had less of its work done.

        Args:
            member: the model.
            threads: of the call; more than there are count as all.
        """
        call = _Call(member, min(threads, self._threads))
        with self._lock:
            member.served = max(member.served, self._now)  # nobody saves up turns while it has nothing to do
            self._waiting.append(call)
            self._grant()
        if not call.granted.acquire(timeout=self._patience_seconds):
            with self._lock:
                if call in self._waiting:
                    self._hand_over(call)
        try:
            yield
        finally:
            with self._lock:
                self._free += call.threads
                self._grant()

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._waiting)

    def goes_on(self, member: Member) -> bool:
        """Return whether a member that has its turn, and more to do, is still the next."""
        with self._lock:
            return all(member.served <= call.member.served for call in self._waiting)

    def used(self, member: Member, *, seconds: float, backlog_seconds: float) -> None:
        """Charge a member for a call that took so long while so much work waited for it, the call's own with it."""
        with self._lock:
            member.served += seconds / max(backlog_seconds, seconds)

    def _grant(self) -> None:
        while self._waiting:
            first = min(self._waiting, key=lambda call: call.member.served)
            if first.threads > self._free:
                return
            self._hand_over(first)

    def _hand_over(self, call: "_Call") -> None:
        self._waiting.remove(call)
        self._free -= call.threads
        self._now = max(self._now, call.member.served)
        call.granted.release()


class _Call:
    def __init__(self, member: Member, threads: int) -> None:
        self.member = member
        self.threads = threads
        self.granted = threading.Lock()
        self.granted.acquire()
