"""What the server counts and times, for Prometheus. The only importer of prometheus_client.

Times are seconds. Labels are model and version, and the outcome of a request; never anything a client chooses.
"""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from serving.batching import Batch
from serving.clock import NANOSECONDS_PER_SECOND

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
RATIO_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
MODEL_LABELS = ("model", "version")


class ModelMetrics:
    """The metrics of one model version; what a runner reports to (`serving.runner.RunnerMetrics`)."""

    def __init__(self, metrics: "ServerMetrics", model: str, version: str) -> None:
        self._queue_rows = metrics.queue_rows.labels(model, version)
        self._backlog = metrics.backlog_seconds.labels(model, version)
        self._queue_delay = metrics.queue_delay.labels(model, version)
        self._engine_run = metrics.engine_run.labels(model, version)
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._padding = metrics.padding_efficiency.labels(model, version)
        self._failures = metrics.batch_failures.labels(model, version)
        self._running_rows = metrics.running_rows.labels(model, version)

    def watch(self, *, waiting_rows: Callable[[], float], backlog_seconds: Callable[[], float]) -> None:
        """Ask for these when the metrics are read, instead of being told at every request."""
        self._queue_rows.set_function(waiting_rows)
        self._backlog.set_function(backlog_seconds)

    def batch_started(self, batch: Batch, *, waits_ns: Sequence[int]) -> None:
        """Add the rows to those in the engine, and record how long the requests waited whose first call it is."""
        self._running_rows.inc(batch.rows)
        for wait_ns in waits_ns:
            self._queue_delay.observe(wait_ns / NANOSECONDS_PER_SECOND)

    def batch_ran(self, batch: Batch, *, nanoseconds: int) -> None:
        """Record an engine call that ended well."""
        self._running_rows.dec(batch.rows)
        self._engine_run.observe(nanoseconds / NANOSECONDS_PER_SECOND)
        self._batch_rows.observe(batch.rows)
        self._padding.observe(batch.padding_efficiency)

    def batch_failed(self, batch: Batch) -> None:
        """Count an engine call that raised; its rows are run again one by one."""
        self._running_rows.dec(batch.rows)
        self._failures.inc()


class ServerMetrics:
    """All metrics, on one registry of their own."""

    def __init__(self, *, cpu_threads: int) -> None:
        self.registry = CollectorRegistry()
        self._request_series: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        """Looked up once each: finding a child by its labels takes longer than counting."""
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lstm_requests",
            "ModelInfer calls answered, by outcome: ok, or the reason of the error",
            (*MODEL_LABELS, "outcome"),
            registry=self.registry,
        )
        self.request_seconds = self._histogram(
            "lstm_request_seconds", "From decoding a call to its answer or error, queue and engine included"
        )
        self.queue_delay = self._histogram(
            "lstm_queue_delay_seconds", "From a request's arrival in the queue to the start of its first engine call"
        )
        self.engine_run = self._histogram("lstm_engine_run_seconds", "One engine call, packing and scattering included")
        self.batch_rows = self._histogram("lstm_batch_rows", "Rows per engine call", ROWS_BUCKETS)
        self.padding_efficiency = self._histogram(
            "lstm_padding_efficiency_ratio", "Real steps over padded ones, per engine call", RATIO_BUCKETS
        )
        self.batch_failures = Counter(
            "lstm_batch_failures", "Engine calls that raised", MODEL_LABELS, registry=self.registry
        )
        self.queue_rows = Gauge("lstm_queue_rows", "Rows that wait", MODEL_LABELS, registry=self.registry)
        self.backlog_seconds = Gauge(
            "lstm_backlog_seconds",
            "Predicted seconds until all accepted work is done",
            MODEL_LABELS,
            registry=self.registry,
        )
        self.running_rows = Gauge("lstm_running_rows", "Rows in the engine", MODEL_LABELS, registry=self.registry)
        self.ready = Gauge("lstm_ready", "1 while the server takes requests", registry=self.registry)
        Gauge("lstm_cpu_threads", "Threads of one engine call on the CPU", registry=self.registry).set(cpu_threads)

    def of_model(self, model: str, version: str) -> ModelMetrics:
        """Return the metrics of one model version, present on `/metrics` from now on."""
        return ModelMetrics(self, model, version)

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None:
        """Count one ModelInfer call of a known model version; its trace's id goes with the time as an exemplar."""
        series = self._request_series.get((model, version, outcome))
        if series is None:
            series = (self.requests.labels(model, version, outcome), self.request_seconds.labels(model, version))
            self._request_series[model, version, outcome] = series
        series[0].inc()
        series[1].observe(seconds, None if trace_id is None else {"trace_id": trace_id})

    def not_served(self, reason: str) -> None:
        """Count one request that came to no model; a name that it gave stays out of the labels."""
        self.requests.labels("", "", reason).inc()

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = SECONDS_BUCKETS) -> Histogram:
        return Histogram(name, text, MODEL_LABELS, buckets=buckets, registry=self.registry)
