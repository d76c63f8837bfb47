"""The front of one replica: the thread that takes calls, and the one that writes answers.

Mirrors `serving/wire/completions.py`: the events of all calls wait in one queue, and each call comes to its head twice,
once when it begins and once with its message. The shipped `Lag` decides which calls are refused before they are read.
"""

from collections import deque
from collections.abc import Callable

from loadtests.simulate.costs import FrontCost
from loadtests.simulate.events import Loop, to_ns
from loadtests.simulate.processor import Processor, Thread
from loadtests.simulate.requests import Outcome, Request
from serving.wire.lag import Lag

ACCEPTING = 512
"""Calls that may wait for the thread; more wait where no `Lag` sees them (`serving.wire.completions.ACCEPTING`)."""
WEIGHT = 1024.0
"""Of a thread of nice level 0 (the kernel's sched_prio_to_weight)."""

Put = Callable[[Request], tuple[Outcome, int | None] | None]
"""Queue a request; returns why it was refused, and after how many nanoseconds it would not be."""
Refused = Callable[[Request, Outcome, int | None], None]
"""Takes why a request was refused, and the hint after how many nanoseconds to try again."""
Written = Callable[[Request, Outcome], None]
"""Takes what became of a request that had been queued."""


class Front:
    """Takes calls and writes answers, on a share of the replica's cores."""

    def __init__(  # noqa: PLR0913  the last three are its seam
        self, loop: Loop, processor: Processor, cost: FrontCost, *, put: Put, refused: Refused, written: Written
    ) -> None:
        """Wait for calls.

        Args:
            loop: tells the time.
            processor: that the replica's threads share.
            cost: of what is done for a request.
            put: queues a request that has been read.
            refused: is told when a refusal has been written.
            written: is told when an answer, or an error after all, has been written.
        """
        self._loop = loop
        self._processor = processor
        self._put = put
        self._tell_refused = refused
        self._tell_written = written
        self._unread_ns, self._message_ns = to_ns(cost.unread), to_ns(cost.message)
        self._reply_ns, self._error_ns = to_ns(cost.reply), to_ns(cost.error)
        self._wake_ns = to_ns(cost.wake)
        self._lag = Lag()
        self._taking = Thread(WEIGHT)
        self._writing = Thread(WEIGHT)
        self._takes = False
        self._writes = False
        self._events: deque[tuple[Request, bool]] = deque()  # whether it is the message, not the beginning
        self._beginnings = 0
        self._outside: deque[Request] = deque()
        self._replies: deque[tuple[Request, Outcome]] = deque()
        self._present: tuple[Request, Outcome, int | None]

    def arrive(self, request: Request) -> None:
        """Take a call that has come."""
        if self._beginnings >= ACCEPTING:
            self._outside.append(request)
        else:
            self._beginnings += 1
            self._events.append((request, False))
        if not self._takes:
            self._takes = True
            self._processor.run(self._taking, self._wake_ns, self._next)

    def reply(self, request: Request, outcome: Outcome) -> None:
        """Write an answer, or the error of a request that had been queued."""
        self._replies.append((request, outcome))
        if not self._writes:
            self._writes = True
            self._processor.run(self._writing, self._wake_ns, self._write)

    def _next(self) -> None:
        """Go on with the next event, or wait for one."""
        events = self._events
        if not events:
            self._takes = False
            if self._lag.matters:
                self._lag.caught_up()
            return
        request, has_message = events.popleft()
        now_ns = self._loop.now_ns
        if has_message:
            self._lag.saw(now_ns - request.begun_ns)
            self._present = (request, Outcome.OK, None)
            self._processor.run(self._taking, self._message_ns, self._read)
            return
        self._beginnings -= 1
        if self._outside:
            self._beginnings += 1
            events.append((self._outside.popleft(), False))
        request.begun_ns = now_ns
        if self._lag.refuses(request.deadline_ns - now_ns):
            self._present = (request, Outcome.BEHIND, self._lag.ns)
            self._processor.run(self._taking, self._unread_ns, self._refused)
        elif events:
            events.append((request, True))
            self._processor.run(self._taking, self._unread_ns, self._next)
        else:  # its message is the next event, unless another call comes within microseconds
            if self._lag.ns:
                self._lag.saw(self._unread_ns)
            self._present = (request, Outcome.OK, None)
            self._processor.run(self._taking, self._unread_ns + self._message_ns, self._read)

    def _read(self) -> None:
        request = self._present[0]
        refused = self._put(request)
        if refused is None:
            self._next()
            return
        self._present = (request, *refused)
        self._processor.run(self._taking, self._error_ns, self._refused)

    def _refused(self) -> None:
        request, outcome, retry_ns = self._present
        self._tell_refused(request, outcome, retry_ns)
        self._next()

    def _write(self) -> None:
        outcome = self._replies[0][1]
        work_ns = self._reply_ns if outcome is Outcome.OK else self._error_ns
        self._processor.run(self._writing, work_ns, self._written)

    def _written(self) -> None:
        request, outcome = self._replies.popleft()
        self._tell_written(request, outcome)
        if self._replies:
            self._write()
        else:
            self._writes = False
