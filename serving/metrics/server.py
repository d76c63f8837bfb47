"""All metrics of a server, on one registry: where its parts report to, and which versions are reported on."""

import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from serving import __version__
from serving.errors import reasons
from serving.metrics import totals
from serving.metrics.elsewhere import Source
from serving.metrics.families import LostLines, ServerFamilies, VersionFamilies
from serving.metrics.uptime import Uptime
from serving.metrics.version import VersionMetrics
from serving.statistics import VersionStatistics

LOAD_OUTCOMES = ("loaded", "refused", "unloaded")


class ServerMetrics:
    """Counts and times for `/metrics`; every method may be called by any thread.

    Attributes:
        registry: holds them all.
        ready: 1 while the server takes requests.
    """

    def __init__(
        self,
        *,
        cpu_threads: int,
        cpu_quota_cores: float | None = None,
        onnxruntime_version: str = "",
        log_lines_lost: Callable[[], int] = lambda: 0,
    ) -> None:
        """Begin with no version to report on.

        Args:
            cpu_threads: of one engine call.
            cpu_quota_cores: cores' worth of time that the cgroup allows; None, and no metric, without a quota.
            onnxruntime_version: that computes.
            log_lines_lost: tells how many lines the log lacks; asked when the metrics are read.
        """
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(Uptime())
        self.registry.register(LostLines(log_lines_lost))
        self._families = VersionFamilies(self.registry)
        self._server = ServerFamilies(self.registry)
        self.ready = self._server.ready
        self._server.cpu_threads.set(cpu_threads)
        self._server.build.labels(__version__, onnxruntime_version).set(1)
        if cpu_quota_cores is not None:
            quota = Gauge("lstm_cpu_quota_cores", "Cores' worth of time that the cgroup allows", registry=self.registry)
            quota.set(cpu_quota_cores)
        self._reasons = sorted(reasons())
        self._not_served = {reason: self._families.requests.labels("", "", reason) for reason in self._reasons}
        self._versions: dict[tuple[str, str], VersionMetrics] = {}
        self._lock = threading.Lock()

    def add(self, elsewhere: Source) -> None:
        """Show what is counted there too, from now on."""
        self._families.elsewhere = elsewhere

    def of_model(self, model: str, version: str) -> VersionMetrics:
        """Return the metrics of one model version, present on `/metrics` from now on.

        A version that is loaded again under its number gets the same: its counters go on, and its gauges are those of
        the runner that watches last.
        """
        with self._lock:
            if (model, version) not in self._versions:
                self._versions[model, version] = VersionMetrics(self._families, model, version, reasons=self._reasons)
            return self._versions[model, version]

    def forget(self, model: str, version: str) -> None:
        """Drop all series of a version that no longer serves, and with them what keeps its runner alive.

        Of its requests that are still under way nothing is counted. Counts of the model's loads stay.
        """
        with self._lock:
            gone = self._versions.pop((model, version), None)
            if gone is not None:
                gone.remove()
                if self._families.elsewhere is not None:
                    self._families.elsewhere.forget(model, version)

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, trace_id: str | None = None
    ) -> None:
        """Count one inference request of a model version; nothing if the version has been forgotten.

        Args:
            model: its name.
            version: of it.
            outcome: `ok`, or the reason of the error.
            seconds: from decoding to answer or error.
            trace_id: 32 hexadecimal digits, if the request is part of a trace; the exemplar of its duration.
        """
        reported = self._versions.get((model, version))
        if reported is not None:
            reported.request_ended(outcome, seconds, trace_id)

    def not_served(self, reason: str) -> None:
        """Count one request that came to no model; a name that it gave stays out of the labels."""
        self._not_served[reason].inc()

    def describe_model(self, model: str, version: str, *, precision: str, engine: str) -> None:
        """Say of a version that serves what computes it: the precision of its weights, and the engine's name."""
        self.of_model(model, version).describe(precision=precision, engine=engine)

    def model_loaded(self, model: str, version: str, seconds: float) -> None:
        """Count a version that serves from now on; `seconds` is what loading took, warm-up included."""
        self.of_model(model, version)
        for outcome in LOAD_OUTCOMES:  # a series that begins at 1 has no increase
            self._server.loads.labels(model, outcome)
        self._server.loads.labels(model, "loaded").inc()
        self._server.load_seconds.labels(model).observe(seconds)

    def model_refused(self, model: str) -> None:
        """Count a version in the repository that could not be loaded; `model` is its folder, not a client's word."""
        self._server.loads.labels(model, "refused").inc()

    def model_unloaded(self, model: str) -> None:
        """Count a version that takes no more requests; `forget` is for when its last one has been answered."""
        self._server.loads.labels(model, "unloaded").inc()

    def statistics(self) -> list[VersionStatistics]:
        """Return the totals of every version that is reported on, by name and number."""
        with self._lock:
            versions = sorted(self._versions, key=lambda each: (each[0], int(each[1])))
        return totals.statistics(self._families, versions)
