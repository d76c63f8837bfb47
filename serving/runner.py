"""The shell around the batcher: plain threads that take requests, run batches and hand out answers.

The only caller of the batcher and of the engine. Requests come in through `put` (any thread) with a reply to be made;
`step` is one turn of an instance's loop and needs no thread of its own. Knows no wire, no engine by name, no metrics
library.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serving.batching import NEVER_NS, Batch, Batcher, Refusal, Refused, Span, Ticket
from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.engine.base import Engine
from serving.engine.priority import compute_in_the_background
from serving.engine.turns import Member, Turns
from serving.errors import Cancelled, DeadlineExceeded, Overloaded, ServingError
from serving.execution import Execution, Work
from serving.inbox import Arrival, Arrivals, Reply, Trace
from serving.manifest import Manifest
from serving.policy import Policy
from serving.refusals import error_of, overload
from serving.reports import RunnerMetrics
from serving.tensors import Answer, Layout, Part, Rows

MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000


INTAKE_SECONDS = 0.001
"""How long what has come may wait while nobody is idle, before it is looked at whether it has to be refused. The end of
most calls comes before, and takes it along without waking a thread for it."""


class _Request:
    """A live request: its answer in the making and where that goes; neither, if the front keeps both."""

    __slots__ = ("answer", "reply", "started", "ticket", "trace")

    def __init__(
        self, ticket: Ticket, answer: Answer | None = None, reply: Reply | None = None, trace: Trace | None = None
    ) -> None:
        self.ticket = ticket
        self.answer = answer
        self.reply = reply
        self.trace = trace
        self.started = False


class _Refused(NamedTuple):
    """A request that the batcher has not admitted."""

    ticket_id: int
    arrival: Arrival
    why: Refused
    error: ServingError


class Runner:
    """One model version's batcher and engine, and the threads between them.

    The batcher is touched under one lock only; the engine by whoever calls `step`, one call per instance at a time.
    """

    def __init__(  # noqa: PLR0913  the parts it brings together
        self,
        *,
        manifest: Manifest,
        policy: Policy,
        engine: Engine,
        batcher: Batcher,
        turns: Turns,
        clock: Clock,
        metrics: RunnerMetrics,
    ) -> None:
        self._manifest = manifest
        self._layout = Layout(manifest)
        self._policy = policy
        self._engine = engine
        self._execution = Execution(manifest.name, layout=self._layout, engine=engine, clock=clock, metrics=metrics)
        self._batcher = batcher
        self._turns = turns
        self._member = Member()
        self._clock = clock
        self._metrics = metrics
        self._last_id = 0
        self._arrivals: Arrivals | None = None
        self._holds_off = False
        self._intake = threading.Thread(target=self._take_in, name=f"intake-{manifest.name}-{manifest.version}")
        self._requests: dict[int, _Request] = {}
        self._free_instances = policy.instances
        self._draining = False
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        self._deadline_came = threading.Condition(self._lock)
        self._alarm_ns = NEVER_NS
        self._threads: list[threading.Thread] = []
        metrics.watch(
            waiting_rows=lambda: batcher.waiting_rows,
            live_rows=lambda: batcher.live_rows,
            backlog_seconds=lambda: batcher.backlog_seconds,
        )

    def put(
        self,
        rows: Rows,
        reply: Reply,
        *,
        deadline_ns: int | None = None,
        priority: int | None = None,
        trace: Trace | None = None,
    ) -> int:
        """Queue a checked request; any thread.

        Args:
            rows: of the request.
            reply: is called exactly once, unless this raises.
            deadline_ns: on the server's clock; None for no deadline.
            priority: 1 (first) to 9; None for the model's default.
            trace: is told of the request's way through the engine, if it is traced.

        Raises:
            QueueFull: the model's queue has no room for its rows.
            Overloaded: its deadline cannot be met behind the present backlog.
            DeadlineExceeded: the deadline has passed already, or could not be met on an idle server.
            Draining: the server is stopping.
        """
        now_ns = self._clock.now_ns()
        deadline_ns = NEVER_NS if deadline_ns is None else deadline_ns
        with self._lock:
            ticket = self._ticket(Arrival(rows.lengths.tolist(), now_ns, deadline_ns, priority or 0))
            refused = self._batcher.admit(ticket, now_ns=now_ns)
            if refused is not None:
                raise error_of(refused, self._manifest.name, self._batcher)
            if trace is not None:
                trace.queued(now_ns)
            self._requests[ticket.id] = _Request(ticket, self._layout.answer(rows), reply, trace)
            self._tell_of_work(ticket.deadline_ns)
        return ticket.id

    def attach(self, arrivals: Arrivals) -> None:
        """Take requests from there too, until the runner has drained; called once.

        They are taken when a batch is to be picked, and by a thread of their own when there is none for a while.
        """
        self._layout.keeper = arrivals
        with self._lock:
            self._arrivals = arrivals
            self._work_came.notify_all()  # who waits for work waits there from now on
            if self._draining:
                arrivals.close()
        self._intake.start()

    def take(self, *, taker: int = 0) -> bool:
        """Queue what has come to the front since, and let those go that their clients have cancelled; any thread.

        Args:
            taker: 1 if the caller is an instance that is free itself, and need not be woken.

        Returns:
            Whether there was anything.
        """
        arrivals = self._arrivals
        if arrivals is None:
            return False
        refused: list[_Refused] = []
        with self._lock:
            came, cancelled = arrivals.take(self._last_id + 1)
            now_ns = self._clock.now_ns()
            earliest_ns = NEVER_NS
            for arrival in came:
                ticket = self._ticket(arrival)
                why = self._batcher.admit(ticket, now_ns=now_ns)
                if why is None:
                    self._requests[ticket.id] = _Request(ticket)
                    earliest_ns = min(earliest_ns, ticket.deadline_ns)
                else:
                    error = error_of(why, self._manifest.name, self._batcher)
                    refused.append(_Refused(ticket.id, arrival, why, error))
            if len(refused) < len(came):
                self._tell_of_work(earliest_ns, taker=taker)
            if refused:
                self._hold_off(arrivals, refused)
        for ticket_id, _, why, error in refused:
            if why.why is Refusal.DRAINING:  # another version may serve in the place of this one
                arrivals.refer(ticket_id)
            else:
                arrivals.fail(ticket_id, error)
        for ticket_id in cancelled:
            self.cancel(ticket_id)
        return bool(came or cancelled)

    def cancel(self, ticket_id: int) -> None:
        """Let a request go that has not been answered; any thread. What the engine does for it then is dropped."""
        if ticket_id not in self._requests:
            return
        self._fail(ticket_id, Cancelled("the client cancelled the request"))

    def expire(self) -> int:
        """Fail the requests whose deadline has come, wherever they are; returns the next deadline on the clock."""
        with self._lock:
            expired = [self._requests.pop(ticket.id) for ticket in self._batcher.expire(self._clock.now_ns())]
            self._alarm_ns = alarm_ns = self._batcher.next_deadline_ns
            if expired:
                self._resume()
            self._wake_if_drained()
        self._fail_late(expired)
        return alarm_ns

    def step(self, *, free_since_ns: int | None = None) -> bool:
        """Expire what is late, run one batch if anything waits, hand out its answers; False if there was nothing.

        Args:
            free_since_ns: when this instance became free for the work that waits; None for now.
        """
        self.take(taker=1)
        with self._lock:
            now_ns = self._clock.now_ns()
            decision = self._batcher.poll(now_ns, free_instances=self._free_instances)
            expired = [self._requests.pop(ticket.id) for ticket in decision.expired]
            if expired:
                self._resume()
            work = None if decision.batch is None else self._gather(decision.batch, now_ns)
            self._free_instances -= 1
            if self._free_instances and self._batcher.waiting_rows:
                self._wake_an_instance()
        try:
            self._fail_late(expired)
            if work is not None:
                ran = self._execution.run(work, is_live=self._requests.__contains__, fail=self._fail)
                self._finish(work.batch, ran, free_since_ns=now_ns if free_since_ns is None else free_since_ns)
        finally:
            with self._lock:
                self._free_instances += 1
                self._wake_if_drained()
        return bool(expired) or work is not None

    def start(self) -> None:
        """Run the loops in threads of their own until `drain` has been called and nothing is live."""
        name = f"{self._manifest.name}-{self._manifest.version}"
        self._threads = [
            threading.Thread(target=self._loop, name=f"runner-{name}-{instance}")
            for instance in range(self._policy.instances)
        ]
        self._threads.append(threading.Thread(target=self._watch_deadlines, name=f"deadlines-{name}"))
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Take nothing new from now on; what was accepted is still answered."""
        with self._lock:
            self._draining = True
            self._batcher.drain()
            if self._arrivals is not None:
                self._arrivals.close()
            self._wake_all()

    def join(self) -> None:
        """Wait until the drained loops have answered everything."""
        for thread in self._threads:
            thread.join()
        if self._intake.ident is not None:
            self._intake.join()

    def _loop(self) -> None:
        compute_in_the_background()
        free_since_ns: int | None = None
        while True:
            if not self._batcher.waiting_rows:
                self.take(taker=1)  # what came during the last call waits for its end, not for the thread that takes in
            if not self._batcher.waiting_rows:
                free_since_ns = None
                if not self._wait_for_work():
                    return
            with self._turns.turn(self._member, threads=self._engine.threads):
                free_since_ns = self._take_turn(free_since_ns)
                while self._batcher.waiting_rows and self._turns.goes_on(self._member):
                    free_since_ns = self._take_turn(free_since_ns)

    def _wait_for_work(self) -> bool:
        """Wait until rows do; returns False if there will be no more."""
        while True:
            with self._lock:
                if self._arrivals is None:
                    self._work_came.wait_for(
                        lambda: self._batcher.waiting_rows or self._drained() or self._arrivals is not None
                    )
                if self._batcher.waiting_rows:
                    return True
                if self._drained():
                    self._wake_an_instance()  # which finds the same
                    return False
                arrivals = self._arrivals
            if arrivals is not None:
                arrivals.wait_idle()
                self.take(taker=1)

    def _take_turn(self, free_since_ns: int | None) -> int:
        """Make one step and have it charged; returns when it ended."""
        started_ns = self._clock.now_ns()
        backlog_seconds = self._batcher.backlog_seconds
        self.step(free_since_ns=free_since_ns)
        ended_ns = self._clock.now_ns()
        seconds = (ended_ns - started_ns) / NANOSECONDS_PER_SECOND
        self._turns.used(self._member, seconds=seconds, backlog_seconds=backlog_seconds)
        return ended_ns

    def _drained(self) -> bool:
        return self._draining and not self._batcher.live_tickets

    def _watch_deadlines(self) -> None:
        """Tell callers on time, also while every instance is in a long call."""
        while True:
            alarm_ns = self.expire()
            with self._lock:
                if self._drained():
                    return
                seconds = (alarm_ns - self._clock.now_ns()) / NANOSECONDS_PER_SECOND
                self._deadline_came.wait(
                    None if alarm_ns == NEVER_NS else min(max(seconds, 0.0), threading.TIMEOUT_MAX)
                )

    def _take_in(self) -> None:
        """Take what comes while no batch is picked."""
        assert self._arrivals is not None, "it has been attached"
        while True:
            self._arrivals.wait_overdue(seconds=INTAKE_SECONDS)
            while self.take():
                pass
            with self._lock:
                if self._drained():
                    return

    def _ticket(self, arrival: Arrival) -> Ticket:
        """Give a request its number; called under the lock."""
        self._last_id += 1
        policy = self._policy
        levels = arrival.priority - policy.default_priority if arrival.priority else 0
        return Ticket(
            id=self._last_id,
            lengths=arrival.lengths,
            enqueued_ns=arrival.queued_ns,
            deadline_ns=arrival.deadline_ns,
            handicap_ns=int(levels * policy.priority_step_ms * MILLISECOND_NS),
        )

    def _hold_off(self, arrivals: Arrivals, refused: Sequence[_Refused]) -> None:
        """Have the front refuse what asks for no less than these, until `_resume`; called under the lock.

        Under overload most of what comes is refused, and would be again: the front does so for a fraction of the cost.
        """
        too_much = [
            each
            for each in refused
            if each.why.why is Refusal.OVERLOAD and len(each.arrival.lengths) == 1 and not each.arrival.priority
        ]
        if too_much:
            least = min(too_much, key=lambda each: each.arrival.lengths[0])
            done_ns = least.arrival.deadline_ns + (least.why.retry_ns or 0)
            words = overload(self._manifest.name, self._batcher, "{ms}")
            arrivals.hold_off(least.arrival, done_ns, Overloaded(words))
            self._holds_off = True

    def _tell_of_work(self, deadline_ns: int, *, taker: int = 0) -> None:
        """Wake who waits for work, and who has to know of its deadline; called under the lock."""
        if self._free_instances > taker:
            self._wake_an_instance()
        if deadline_ns < self._alarm_ns:
            self._deadline_came.notify()

    def _gather(self, batch: Batch, now_ns: int) -> Work:
        parts: list[Part | Span] = []
        waits_ns = []
        traces: dict[int, Trace] = {}
        for span in batch.spans:
            ticket_id, row, start, stop = span
            request = self._requests[ticket_id]
            if request.answer is None:
                parts.append(span)
                continue
            parts.append(Part(request.answer, row, start, stop))
            if not request.started:
                request.started = True
                waits_ns.append(now_ns - request.ticket.enqueued_ns)
                if request.trace is not None:
                    request.trace.started(now_ns)
            if request.trace is not None:
                traces[ticket_id] = request.trace
        return Work(batch, parts, waits_ns, traces)

    def _fail(self, ticket_id: int, error: ServingError) -> None:
        """Give a live request an error for its answer; nothing if it is not."""
        with self._lock:
            request = self._requests.pop(ticket_id) if self._batcher.cancel(ticket_id) else None
            if request is not None:
                self._resume()
            self._wake_if_drained()
        if request is not None:
            self._tell(request, error)

    def _finish(self, batch: Batch, ran: bool, *, free_since_ns: int) -> None:  # noqa: FBT001  the execution's answer
        """Hand out the answers that are whole now, then learn; one that comes after its deadline is late all the same.

        Args:
            batch: that is over.
            ran: as a whole; if not, the time it took tells nothing about others.
            free_since_ns: since when the engine could have worked on it.
        """
        with self._lock:
            now_ns = self._clock.now_ns()
            requests = [self._requests.pop(ticket.id) for ticket in self._batcher.finished(batch)]
            self._resume()
            if self._batcher.waiting_rows and self._free_instances:
                self._wake_an_instance()
        late = [request for request in requests if request.ticket.deadline_ns <= now_ns]
        self._fail_late(late)
        in_time = [request for request in requests if request.ticket.deadline_ns > now_ns]
        self._metrics.rows_done(sum(request.ticket.rows for request in in_time))
        kept = [request.ticket.id for request in in_time if request.reply is None]
        if kept and self._arrivals is not None:
            self._arrivals.answer(kept)
        for request in in_time:
            if request.reply is not None and request.answer is not None:
                request.reply.answer(self._layout.outputs_of(request.answer))
        if ran:
            os.sched_yield()  # whoever writes the answers waits for the interpreter, which this thread would keep
            seconds = (now_ns - free_since_ns) / NANOSECONDS_PER_SECOND
            with self._lock:
                self._batcher.learn(batch, seconds=seconds)
            self._metrics.cost_learned(batch, seconds=seconds)

    def _resume(self) -> None:
        """Have everything come here again: there is less work now, or it is known better; called under the lock."""
        if self._holds_off and self._arrivals is not None:
            self._holds_off = False
            self._arrivals.resume()

    def _wake_if_drained(self) -> None:
        if self._drained():
            self._wake_all()

    def _wake_an_instance(self) -> None:
        if self._arrivals is None:
            self._work_came.notify()
        else:
            self._arrivals.rouse()

    def _wake_all(self) -> None:
        self._work_came.notify_all()
        self._deadline_came.notify_all()
        if self._arrivals is not None:
            self._arrivals.wake()
            self._arrivals.rouse()

    def _fail_late(self, requests: Iterable[_Request]) -> None:
        for request in requests:
            self._tell(request, DeadlineExceeded("the deadline passed before the answer was ready"))

    def _tell(self, request: _Request, error: ServingError) -> None:
        """Give a request that has left the batcher its error."""
        if request.reply is not None:
            request.reply.fail(error)
        elif self._arrivals is not None:
            self._arrivals.fail(request.ticket.id, error)
