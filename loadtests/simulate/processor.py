"""Cores that threads of one replica share."""

from collections.abc import Callable
from math import ceil

from loadtests.simulate.events import Loop

NEVER_NS = 2**63 - 1
DONE_NS = 0.5
"""Less than that is left of work that is done: time is in whole nanoseconds."""


class Thread:
    """Work of one thread; it does one thing at a time.

    Attributes:
        weight: its share of a core that others want too, against theirs.
        left_ns: work still to do, as nanoseconds of a whole core.
        rate: cores that it has now, at most one.
        done: is called when the work is done.
    """

    __slots__ = ("done", "left_ns", "rate", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.left_ns = 0.0
        self.rate = 0.0
        self.done: Callable[[], None] = _nothing


class Processor:
    """Cores shared by threads in proportion to their weights, and by each thread up to a whole core.

    Generalised processor sharing (Parekh and Gallager, 1993), which is what the kernel's fair scheduler (EEVDF)
    approximates, to within a slice of about 3 ms.

    Attributes:
        busy_ns: core-nanoseconds that were used.
    """

    def __init__(self, loop: Loop, *, cores: int = 1, speed: float = 1.0) -> None:
        """Have so many cores; with a speed of 0.5 everything takes twice as long."""
        self._loop = loop
        self._cores = cores
        self._slowness = 1.0 / speed
        self._running: list[Thread] = []
        self._since_ns = loop.now_ns
        self._wake_ns = NEVER_NS
        self._waking = False
        self._off = False
        self.busy_ns = 0

    def run(self, thread: Thread, work_ns: float, done: Callable[[], None]) -> None:
        """Have an idle thread work; nothing to do is done at once.

        Args:
            thread: that works.
            work_ns: nanoseconds of a whole core at speed 1.
            done: what happens then.
        """
        if work_ns <= 0:
            done()
            return
        self._settle()
        thread.left_ns = work_ns * self._slowness
        thread.done = done
        self._running.append(thread)
        if not self._waking:
            self._plan()

    def switch_off(self) -> None:
        """Do nothing any more: the process was killed."""
        self._settle()
        self._off = True
        self._running.clear()
        self._wake_ns = NEVER_NS

    def settled_busy_ns(self) -> int:
        """Return `busy_ns` up to now."""
        self._settle()
        return self.busy_ns

    def _settle(self) -> None:
        now_ns = self._loop.now_ns
        passed_ns = now_ns - self._since_ns
        if passed_ns:
            running = self._running
            for thread in running:
                thread.left_ns -= passed_ns * thread.rate
            self.busy_ns += passed_ns * min(len(running), self._cores)
            self._since_ns = now_ns

    def _plan(self) -> None:
        """Share the cores anew, and plan when the next thread is done."""
        running = self._running
        if self._off or not running:
            self._wake_ns = NEVER_NS
            return
        if len(running) <= self._cores:
            soonest_ns = NEVER_NS + 0.0
            for thread in running:
                thread.rate = 1.0
                soonest_ns = min(soonest_ns, thread.left_ns)
        else:
            soonest_ns = self._share(running)
        at_ns = self._loop.now_ns + max(1, ceil(soonest_ns))
        if at_ns != self._wake_ns:
            self._wake_ns = at_ns
            self._loop.at(at_ns, self._wake, at_ns)

    def _share(self, running: list[Thread]) -> float:
        """Fill the cores, heaviest threads first, none of which gets more than one; returns when the first is done."""
        free, weight = float(self._cores), sum([thread.weight for thread in running])
        soonest_ns = NEVER_NS + 0.0
        if self._cores > 1:
            running.sort(key=lambda thread: -thread.weight)
        for thread in running:
            thread.rate = rate = min(1.0, free * thread.weight / weight)
            if rate == 1.0:
                free -= rate
                weight -= thread.weight
            soonest_ns = min(soonest_ns, thread.left_ns / rate)
        return soonest_ns

    def _wake(self, at_ns: int) -> None:
        if at_ns != self._wake_ns:
            return  # planned anew meanwhile
        self._settle()
        done = [thread for thread in self._running if thread.left_ns < DONE_NS]
        self._running = [thread for thread in self._running if thread.left_ns >= DONE_NS]
        self._waking = True
        for thread in done:
            thread.done()
        self._waking = False
        self._plan()


def _nothing() -> None:
    """Do nothing."""
