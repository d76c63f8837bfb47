"""The shell around the batcher: one plain thread per model that takes requests, runs batches and hands out answers.

The only caller of the batcher and of the engine. Requests come in through `put` (any thread) with a reply to be made;
`step` is one turn of the loop and needs no thread of its own. Knows no wire, no engine by name, no metrics library.
"""

import itertools
import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.batching import NEVER_NS, Batch, Batcher, Refusal, Ticket
from serving.clock import Clock
from serving.engine.base import Engine
from serving.errors import Cancelled, DeadlineExceeded, Draining, EngineError, QueueFull, ServingError
from serving.manifest import Manifest
from serving.tensors import Arrays, Rows, pack, scatter

log = logging.getLogger(__name__)


class Reply(Protocol):
    """Where the one answer or the one error of a request goes; called from the runner's thread, must not block."""

    def answer(self, outputs: Arrays) -> None:
        """Take the request's own rows of every output."""

    def fail(self, error: ServingError) -> None:
        """Take the request's error."""


class Inbox(Protocol):
    """What a front sees of a runner."""

    def put(self, rows: Rows, reply: Reply, *, deadline_ns: int | None = None) -> int:
        """Queue a checked request and return its ticket's id; `reply` is called exactly once, unless this raises."""

    def cancel(self, ticket_id: int) -> None:
        """Take a request back if it has not started; its reply then fails with `Cancelled`."""


class RunnerMetrics(Protocol):
    """What a runner reports, as it happens."""

    def queued(self, rows: int) -> None:
        """Rows that wait now."""

    def batch_started(self, batch: Batch) -> None:
        """An engine call begins."""

    def batch_ran(self, batch: Batch, *, started_ns: int, finished_ns: int) -> None:
        """An engine call ended well."""

    def batch_failed(self, batch: Batch) -> None:
        """An engine call raised."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    rows: Rows
    reply: Reply


class Runner:
    """One model version's queue, batcher and engine.

    The batcher is touched under one lock only; the engine by whoever calls `step`, one at a time.
    """

    def __init__(
        self, *, manifest: Manifest, engine: Engine, batcher: Batcher, clock: Clock, metrics: RunnerMetrics
    ) -> None:
        self._manifest = manifest
        self._engine = engine
        self._batcher = batcher
        self._clock = clock
        self._metrics = metrics
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._draining = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, rows: Rows, reply: Reply, *, deadline_ns: int | None = None) -> int:
        """Queue a checked request; any thread.

        Raises:
            QueueFull: the model's queue has no room for its rows.
            DeadlineExceeded: the deadline has passed already.
            Draining: the server is stopping.
        """
        now_ns = self._clock.now_ns()
        ticket = Ticket(
            id=next(self._ids),
            rows=rows.rows,
            steps=rows.steps,
            enqueued_ns=now_ns,
            deadline_ns=NEVER_NS if deadline_ns is None else deadline_ns,
        )
        with self._changed:
            refusal = self._batcher.admit(ticket, now_ns=now_ns)
            if refusal is not None:
                raise self._error_of(refusal)
            self._waiting[ticket.id] = _Waiting(rows, reply)
            self._metrics.queued(self._batcher.queued_rows)
            self._changed.notify()
        return ticket.id

    def cancel(self, ticket_id: int) -> None:
        """Take a request back if it has not started; any thread."""
        if ticket_id not in self._waiting:
            return
        with self._changed:
            waiting = self._waiting.pop(ticket_id) if self._batcher.cancel(ticket_id) else None
            self._metrics.queued(self._batcher.queued_rows)
        if waiting is not None:
            waiting.reply.fail(Cancelled("the client cancelled the request"))

    def step(self) -> bool:
        """Expire what is late, run one batch if anything waits, hand out its answers; False if there was nothing."""
        with self._changed:
            decision = self._batcher.poll(self._clock.now_ns())
            expired = [self._waiting.pop(ticket.id) for ticket in decision.expired]
            tickets = decision.batch.tickets if decision.batch is not None else ()
            members = [self._waiting.pop(ticket.id) for ticket in tickets]
            self._metrics.queued(self._batcher.queued_rows)
        for waiting in expired:
            waiting.reply.fail(DeadlineExceeded("the deadline passed while the request waited in the queue"))
        if decision.batch is not None:
            self._run(decision.batch, members)
        return bool(expired or members)

    def start(self) -> None:
        """Run the loop in a thread of its own until `drain` has been called and nothing waits."""
        self._thread = threading.Thread(target=self._loop, name=f"runner-{self._manifest.name}")
        self._thread.start()

    def drain(self) -> None:
        """Take nothing new from now on; what waits is still answered."""
        with self._changed:
            self._draining = True
            self._batcher.drain()
            self._changed.notify()

    def join(self) -> None:
        """Wait until the drained loop has answered everything."""
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._draining)
                if self._draining and not self._waiting:
                    return
            self.step()

    def _run(self, batch: Batch, members: Sequence[_Waiting]) -> None:
        started_ns = self._clock.now_ns()
        self._metrics.batch_started(batch)
        try:
            requests = [member.rows for member in members]
            answers = scatter(self._manifest, self._engine.run(pack(self._manifest, requests)), requests)
        except Exception as error:  # noqa: BLE001  the engine is foreign code, and the loop must outlive it
            self._metrics.batch_failed(batch)
            self._isolate(batch, members, error)
            return
        self._metrics.batch_ran(batch, started_ns=started_ns, finished_ns=self._clock.now_ns())
        for member, outputs in zip(members, answers, strict=True):
            member.reply.answer(outputs)

    def _isolate(self, batch: Batch, members: Sequence[_Waiting], error: Exception) -> None:
        """Run the members of a failed batch one by one, so that only the culprit fails."""
        if len(members) > 1:
            log.warning("batch of %d requests failed (%s); running them one by one", len(members), error)
            for ticket, member in zip(batch.tickets, members, strict=True):
                self._run(Batch(tickets=(ticket,)), [member])
            return
        fault = uuid.uuid4().hex[:12]
        log.error("engine fault %s: model %s, %s", fault, self._manifest.name, batch, exc_info=error)
        members[0].reply.fail(
            EngineError(f"model '{self._manifest.name}' failed on this request; the server's log has it as {fault}")
        )

    def _error_of(self, refusal: Refusal) -> ServingError:
        match refusal:
            case Refusal.QUEUE_FULL:
                return QueueFull(
                    f"the queue of model '{self._manifest.name}' is full ({self._batcher.queued_rows} rows wait); "
                    "retry later, or raise max_queue_rows in its model.yaml"
                )
            case Refusal.DEADLINE_PASSED:
                return DeadlineExceeded("the deadline had passed when the request arrived")
            case Refusal.DRAINING:
                return Draining("the server is stopping; retry on another replica")
