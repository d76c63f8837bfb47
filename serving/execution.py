"""What happens to a batch: gathered, run in the engine, scattered into the answers; or, if that fails, row by row.

Touches the engine and the answers in the making, never the batcher; called outside the runner's lock.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from serving.batching import Batch, Span
from serving.clock import Clock
from serving.engine.base import Engine
from serving.errors import EngineError
from serving.inbox import EngineCall, Trace
from serving.reports import ExecutionMetrics
from serving.tensors import Layout, Part

log = logging.getLogger(__name__)


class Work(NamedTuple):
    """A batch with what it is made of: a part of an answer for each span, and how long first comers have waited."""

    batch: Batch
    parts: list[Part | Span]
    waits_ns: list[int]
    traces: Mapping[int, Trace] = MappingProxyType({})
    """By ticket, of the requests that are traced."""


class Execution:
    """Runs the batches of one model version; any number of threads, each with a batch of its own."""

    def __init__(self, model: str, *, layout: Layout, engine: Engine, clock: Clock, metrics: ExecutionMetrics) -> None:
        """Take the model's name, for messages, and what its batches go through."""
        self._model = model
        self._layout = layout
        self._engine = engine
        self._clock = clock
        self._metrics = metrics

    def run(self, work: Work, *, is_live: Callable[[int], bool], fail: Callable[[int, EngineError], None]) -> bool:
        """Run a batch, or its rows one by one if it fails, so that only the culprit's request does.

        Args:
            work: to be run; its answers hold the outputs afterwards.
            is_live: whether the request of an id still wants its answer; asked before a row is run again.
            fail: is called with the id of each request whose row fails on its own.

        Returns:
            Whether the batch ran as a whole.
        """
        started_ns = self._clock.now_ns()
        self._metrics.batch_started(work.batch, waits_ns=work.waits_ns)
        try:
            feed = self._layout.pack(work.parts)
            packed_ns = self._clock.now_ns()
            outputs = self._engine.run(feed)
            computed_ns = self._clock.now_ns()
            self._layout.scatter(outputs, work.parts)
        except Exception as error:  # noqa: BLE001  the engine is foreign code, and the runner's loop must outlive it
            self._metrics.batch_failed(work.batch)
            if work.traces:
                _tell(work, started_ns, self._clock.now_ns(), failed=True)
            if len(work.parts) == 1:
                fail(work.batch.spans[0].ticket, self._fault(work.batch, error))
                return False
            log.warning(
                "batch of %d rows of model %s failed (%s); running them one by one",
                len(work.parts), self._model, error,
                extra={"event": "batch_failed", "model": self._model, "rows": len(work.parts)},
            )  # fmt: skip
            for span, part in zip(work.batch.spans, work.parts, strict=True):
                if is_live(span.ticket):
                    self.run(_alone(work, span, part), is_live=is_live, fail=fail)
            return False
        self._metrics.batch_ran(
            work.batch,
            pack_ns=packed_ns - started_ns,
            engine_ns=computed_ns - packed_ns,
            scatter_ns=self._clock.now_ns() - computed_ns,
        )
        if work.traces:
            _tell(work, started_ns, self._clock.now_ns(), failed=False)
        return True

    def _fault(self, batch: Batch, error: Exception) -> EngineError:
        """Log what the engine raised, and return what the caller is told of it."""
        fault = uuid.uuid4().hex[:12]
        log.error(
            "engine fault %s: model %s, %s", fault, self._model, batch, exc_info=error,
            extra={"event": "engine_fault", "fault": fault, "model": self._model},
        )  # fmt: skip
        return EngineError(
            f"model '{self._model}' failed on this request; the server's log has it as {fault}", fault=fault
        )


def _alone(work: Work, span: Span, part: Part | Span) -> Work:
    batch = replace(work.batch, spans=(span,), steps=span.stop - span.start)
    traces = {span.ticket: work.traces[span.ticket]} if span.ticket in work.traces else {}
    return Work(batch, [part], [], traces)


def _tell(work: Work, started_ns: int, ended_ns: int, *, failed: bool) -> None:
    """Tell the traces of an engine call."""
    batch = work.batch
    padding_efficiency = batch.real_steps / (batch.rows * batch.steps)
    call = EngineCall(started_ns, ended_ns, batch.rows, batch.steps, padding_efficiency, failed)
    rows = Counter(span.ticket for span in batch.spans)
    for ticket_id, trace in work.traces.items():
        trace.engine_ran(call, rows=rows[ticket_id])
