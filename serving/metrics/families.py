"""Every metric that the server has: its name, type, labels, buckets and what it counts."""

from collections.abc import Callable, Iterable, Iterator
from operator import add

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serving.counted import Counted, Durations, Snapshot
from serving.metrics import elsewhere
from serving.metrics.elsewhere import Merged, More, Source

OK = "ok"
ERROR = "error"
"""Of a request's duration, for all outcomes but ok: refusals are quick, and would make answers look so."""

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LOAD_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STEPS_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
RATIO_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
ERROR_BUCKETS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
VERSION_LABELS = ("model", "version")


class VersionFamilies:
    """The metrics that each model version has series of, by their labels model and version; some by outcome as well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.elsewhere: Source | None = None
        """Who counts requests outside of Python."""
        self.requests = Counter(
            "lstm_requests",
            "Inference requests ended, by outcome: ok, or the reason of the error",
            (*VERSION_LABELS, "outcome"),
            registry=None,
        )
        self.request_seconds = Histogram(
            "lstm_request_seconds",
            "From decoding a request to its answer (outcome ok) or error (outcome error), queue and engine included",
            (*VERSION_LABELS, "outcome"),
            buckets=SECONDS_BUCKETS,
            registry=None,
        )
        self.last_request = Gauge(
            "lstm_last_request_timestamp_seconds",
            "When a request was last answered with its outputs, since the epoch",
            VERSION_LABELS,
            registry=None,
        )
        self.rows = self._counter("lstm_rows", "Rows computed whole, of requests that still wanted them")
        self.queue_delay = Histogram(
            "lstm_queue_delay_seconds",
            "From a request's arrival in the queue to the start of its first engine call",
            VERSION_LABELS,
            buckets=SECONDS_BUCKETS,
            registry=None,
        )
        self.queue_rows = self._gauge("lstm_queue_rows", "Rows that wait")
        self.running_rows = self._gauge("lstm_running_rows", "Rows in the engine")
        self.live_rows = self._gauge("lstm_live_rows", "Rows accepted that are not computed whole yet")
        self.backlog_seconds = self._gauge("lstm_backlog_seconds", "Predicted seconds until all accepted work is done")
        self.engine_run = self._histogram(
            "lstm_engine_run_seconds", "One engine call, packing and scattering included", SECONDS_BUCKETS
        )
        self.pack_seconds = self._counter("lstm_pack_seconds", "Part of engine calls: gathering their rows")
        self.scatter_seconds = self._counter(
            "lstm_scatter_seconds", "Part of engine calls: moving outputs into answers"
        )
        self.batch_rows = self._histogram("lstm_batch_rows", "Rows per engine call", ROWS_BUCKETS)
        self.batch_steps = self._histogram(
            "lstm_batch_steps", "Real steps per engine call, of all its rows", STEPS_BUCKETS
        )
        self.padded_steps = self._counter(
            "lstm_batch_padded_steps", "Steps of engine calls with padding: rows times the longest row's steps"
        )
        self.padding_efficiency = self._histogram(
            "lstm_padding_efficiency_ratio", "Real steps over padded ones, per engine call", RATIO_BUCKETS
        )
        self.occupancy = self._histogram(
            "lstm_batch_occupancy_ratio",
            "Rows of an engine call over the most that it was allowed: max_batch_rows, or what was learned to pay",
            RATIO_BUCKETS,
        )
        self.batch_failures = self._counter("lstm_batch_failures", "Engine calls that raised")
        self.cost_predicted = self._counter(
            "lstm_cost_predicted_seconds", "What engine calls that ended were predicted to take"
        )
        self.cost_measured = self._counter(
            "lstm_cost_measured_seconds", "What they took, from when the engine was free for each until it was over"
        )
        self.cost_error = self._histogram(
            "lstm_cost_error_ratio", "Measured over predicted seconds, per engine call", ERROR_BUCKETS
        )
        self.info = Gauge(
            "lstm_model_info",
            "1 for each version that is reported on, with what computes it",
            (*VERSION_LABELS, "precision", "engine"),
            registry=registry,
        )
        self.by_version = (
            *(self.last_request, self.rows, self.queue_delay, self.queue_rows, self.running_rows, self.live_rows),
            *(self.backlog_seconds, self.engine_run, self.pack_seconds, self.scatter_seconds, self.batch_rows),
            *(self.batch_steps, self.padded_steps, self.padding_efficiency, self.occupancy, self.batch_failures),
            *(self.cost_predicted, self.cost_measured, self.cost_error),
        )
        """Those with the labels model and version alone."""
        self._merged = {
            self.requests: Merged(self.requests, self._more(elsewhere.outcomes), add),
            self.request_seconds: Merged(self.request_seconds, self._more(_request_seconds), add),
            self.queue_delay: Merged(self.queue_delay, self._more(_queue_seconds), add),
            self.last_request: Merged(self.last_request, self._more(elsewhere.last_answers), max),
        }
        for merged in self._merged.values():
            registry.register(merged)

    def collect(self, family: MetricWrapperBase) -> Iterable[Metric]:
        """Return what `/metrics` shows of a family."""
        return self._merged.get(family, family).collect()

    def _more(self, of: Callable[[Snapshot], More]) -> Callable[[], More | None]:
        return lambda: None if self.elsewhere is None else of(self.elsewhere.snapshot())

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*VERSION_LABELS, *labels), registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, VERSION_LABELS, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, (*VERSION_LABELS, *labels), buckets=buckets, registry=self._registry)


def _request_seconds(snapshot: Snapshot) -> More:
    def of(counted: Counted, sample: Sample) -> Durations:
        return counted.ok if sample.labels["outcome"] == OK else counted.error

    return elsewhere.durations(snapshot, SECONDS_BUCKETS, of)


def _queue_seconds(snapshot: Snapshot) -> More:
    return elsewhere.durations(snapshot, SECONDS_BUCKETS, lambda counted, _: counted.queue)


class ServerFamilies:
    """The metrics of the process and of what it loads; none of them has a label for a version."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ready = Gauge("lstm_ready", "1 while the server takes requests", registry=registry)
        self.cpu_threads = Gauge("lstm_cpu_threads", "Threads of one engine call on the CPU", registry=registry)
        self.build = Gauge(
            "lstm_build_info",
            "1, with the versions of the server and of ONNX Runtime",
            ("version", "onnxruntime_version"),
            registry=registry,
        )
        self.loads = Counter(
            "lstm_model_loads",
            "Versions of a model that were loaded, refused at load, or unloaded, by outcome",
            ("model", "outcome"),
            registry=registry,
        )
        self.load_seconds = Histogram(
            "lstm_model_load_seconds",
            "Loading one version: reading, checking, warming up",
            ("model",),
            buckets=LOAD_SECONDS_BUCKETS,
            registry=registry,
        )


class LostLines(Collector):
    """Lines that the log lacks. They are counted where they are lost, so that counting them needs no metrics."""

    def __init__(self, lost: Callable[[], int]) -> None:
        self._lost = lost

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return their number."""
        yield CounterMetricFamily(
            "lstm_log_lines_lost",
            "Lines of the log that could not be written to stderr, or not in time",
            value=self._lost(),
        )
