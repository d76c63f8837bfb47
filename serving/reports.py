"""What a runner and its engine calls report, as it happens; the metrics take it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from serving.batching import Batch


class ExecutionMetrics(Protocol):
    """What is reported of engine calls, as they happen."""

    def batch_started(self, batch: Batch, *, waits_ns: Sequence[int]) -> None:
        """An engine call begins; the requests whose first it is have waited so long."""

    def batch_ran(self, batch: Batch, *, pack_ns: int, engine_ns: int, scatter_ns: int) -> None:
        """An engine call ended well; its three parts took so long."""

    def batch_failed(self, batch: Batch) -> None:
        """An engine call raised."""


class RunnerMetrics(ExecutionMetrics, Protocol):
    """What a runner reports, as it happens."""

    def watch(
        self,
        *,
        waiting_rows: Callable[[], float],
        live_rows: Callable[[], float],
        backlog_seconds: Callable[[], float],
    ) -> None:
        """Take what tells, at any time, the rows that wait, the rows accepted, and their work's predicted seconds."""

    def rows_done(self, rows: int) -> None:
        """So many rows' outputs are going to be handed out."""

    def cost_learned(self, batch: Batch, *, seconds: float) -> None:
        """A call took so long, from when the engine was free for it until it was over."""
