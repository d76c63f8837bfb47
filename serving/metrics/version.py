"""What is reported of one model version. Finding a series by its labels takes longer than counting, so each is kept."""

import time
from collections.abc import Callable, Sequence

from serving.batching import Batch
from serving.clock import NANOSECONDS_PER_SECOND
from serving.metrics.families import ERROR, OK, VersionFamilies


class VersionMetrics:
    """The series of one model version; what its runner reports to (`serving.reports.RunnerMetrics`).

    All of them are there from the start, so that the first refusal is an increase and not a new series. They may be
    reported to after `remove`: nobody sees it.
    """

    def __init__(self, families: VersionFamilies, model: str, version: str, *, reasons: Sequence[str]) -> None:
        """Make the series.

        Args:
            families: they belong to.
            model: of the version.
            version: its number.
            reasons: for which a request may end without its outputs.
        """
        self._families = families
        self._labels = labels = (model, version)
        self._info: tuple[str, ...] | None = None
        self._answered_at = 0.0
        seconds = families.request_seconds
        errors = seconds.labels(*labels, ERROR)
        self._requests = {reason: (families.requests.labels(*labels, reason), errors) for reason in reasons}
        self._requests[OK] = (families.requests.labels(*labels, OK), seconds.labels(*labels, OK))
        families.last_request.labels(*labels).set_function(lambda: self._answered_at)
        self._rows = families.rows.labels(*labels)
        self._queue_delay = families.queue_delay.labels(*labels)
        self._queue_rows = families.queue_rows.labels(*labels)
        self._running_rows = families.running_rows.labels(*labels)
        self._live_rows = families.live_rows.labels(*labels)
        self._backlog = families.backlog_seconds.labels(*labels)
        self._engine_run = families.engine_run.labels(*labels)
        self._pack_seconds = families.pack_seconds.labels(*labels)
        self._scatter_seconds = families.scatter_seconds.labels(*labels)
        self._batch_rows = families.batch_rows.labels(*labels)
        self._batch_steps = families.batch_steps.labels(*labels)
        self._padded_steps = families.padded_steps.labels(*labels)
        self._padding = families.padding_efficiency.labels(*labels)
        self._occupancy = families.occupancy.labels(*labels)
        self._failures = families.batch_failures.labels(*labels)
        self._cost_predicted = families.cost_predicted.labels(*labels)
        self._cost_measured = families.cost_measured.labels(*labels)
        self._cost_error = families.cost_error.labels(*labels)

    def watch(
        self,
        *,
        waiting_rows: Callable[[], float],
        live_rows: Callable[[], float],
        backlog_seconds: Callable[[], float],
    ) -> None:
        """Ask for these when the metrics are read, instead of being told at every request; the last to come counts."""
        self._queue_rows.set_function(waiting_rows)
        self._live_rows.set_function(live_rows)
        self._backlog.set_function(backlog_seconds)

    def request_ended(self, outcome: str, seconds: float, trace_id: str | None) -> None:
        """Count one request; see `ServerMetrics.request_ended`."""
        requests, durations = self._requests[outcome]
        requests.inc()
        durations.observe(seconds, None if trace_id is None else {"trace_id": trace_id})
        if outcome == OK:
            self._answered_at = time.time()  # noqa: TID251  a time of day

    def batch_started(self, batch: Batch, *, waits_ns: Sequence[int]) -> None:
        """Add the rows to those in the engine, and record how long the requests waited whose first call it is."""
        self._running_rows.inc(batch.rows)
        for wait_ns in waits_ns:
            self._queue_delay.observe(wait_ns / NANOSECONDS_PER_SECOND)

    def batch_ran(self, batch: Batch, *, pack_ns: int, engine_ns: int, scatter_ns: int) -> None:
        """Record an engine call that ended well."""
        rows, real_steps = batch.rows, batch.real_steps
        padded_steps = rows * batch.steps
        self._running_rows.dec(rows)
        self._engine_run.observe((pack_ns + engine_ns + scatter_ns) / NANOSECONDS_PER_SECOND)
        self._pack_seconds.inc(pack_ns / NANOSECONDS_PER_SECOND)
        self._scatter_seconds.inc(scatter_ns / NANOSECONDS_PER_SECOND)
        self._batch_rows.observe(rows)
        self._batch_steps.observe(real_steps)
        self._padded_steps.inc(padded_steps)
        self._padding.observe(real_steps / padded_steps)
        self._occupancy.observe(rows / batch.most_rows)

    def batch_failed(self, batch: Batch) -> None:
        """Count an engine call that raised; its rows are run again one by one."""
        self._running_rows.dec(batch.rows)
        self._failures.inc()

    def rows_done(self, rows: int) -> None:
        """Count the rows of requests whose outputs are on their way."""
        self._rows.inc(rows)

    def cost_learned(self, batch: Batch, *, seconds: float) -> None:
        """Compare what the batcher learns from an engine call with what it had predicted."""
        self._cost_predicted.inc(batch.predicted_seconds)
        self._cost_measured.inc(seconds)
        self._cost_error.observe(seconds / batch.predicted_seconds)

    def describe(self, *, precision: str, engine: str) -> None:
        """Say what computes the version, in place of what was said before."""
        self._remove_info()
        self._info = (*self._labels, precision, engine)
        self._families.info.labels(*self._info).set(1)

    def remove(self) -> None:
        """Take every series off `/metrics`, and let go of what `watch` was given."""
        for outcome in self._requests:
            self._families.requests.remove(*self._labels, outcome)
        for outcome in (OK, ERROR):
            self._families.request_seconds.remove(*self._labels, outcome)
        for family in self._families.by_version:
            family.remove(*self._labels)
        self._remove_info()

    def _remove_info(self) -> None:
        if self._info is not None:
            self._families.info.remove(*self._info)
            self._info = None
