"""Samples of two moments to figures of the time between them. Pure; what is not known is NaN.

A counter that has gone down began anew, as Prometheus has it: all that it shows has happened since. So does everything
if the process is another one, and without an earlier moment the time is that since the process began.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

OK = "ok"
REQUESTS = "lstm_requests_total"
UNKNOWN = math.nan
Key = tuple[str, str]
"""A model and its version."""
NOBODY = ("", "")
"""The key of requests that came to no model."""
Labels = frozenset[tuple[str, str]]
Series = tuple[str, Labels]


class Sample(NamedTuple):
    """One line of `/metrics`."""

    name: str
    labels: Mapping[str, str]
    value: float


class Moment:
    """All samples of one moment.

    Attributes:
        at_seconds: when they were read, on a monotonic clock.
        values: by name and labels.
    """

    def __init__(self, samples: Iterable[Sample], *, at_seconds: float) -> None:
        self.at_seconds = at_seconds
        self.values: dict[Series, float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value for sample in samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return a sample, NaN if there is none."""
        return self.values.get((name, frozenset(labels.items())), UNKNOWN)

    @property
    def up_seconds(self) -> float:
        """How long the process has run; NaN if it does not say."""
        return self.value("lstm_uptime_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFigures:
    """Of one version of a model. Rates are per second of the time that `Figures` tells, durations are in seconds.

    Attributes:
        precision: of its weights; empty if that is not known.
        engine: that computes it; empty if that is not known.
        total: requests ended since it began to count, whatever became of them.
        requests: ended per second, whatever became of them.
        rows: computed per second.
        errors: ended per second otherwise than with an answer.
        failed: how many of them ended with each outcome in that time, without those that are none.
        mean: duration of the requests that were answered, and their quantiles.
        top: from where on quantiles are not told apart: the largest bound of the histogram.
        queue_rows: rows that wait.
        live_rows: rows that wait or run and whose caller is still there.
        backlog: predicted seconds until all that was accepted is done.
        rows_per_call: rows of an engine call, on average.
        occupancy: rows of an engine call over the most that it was allowed, on average, 0 to 1.
        padding_efficiency: real steps over computed ones, 0 to 1.
        busy: engine calls at a time, on average.
    """

    precision: str = ""
    engine: str = ""
    total: float = UNKNOWN
    requests: float = UNKNOWN
    rows: float = UNKNOWN
    errors: float = UNKNOWN
    failed: Mapping[str, float] = field(default_factory=dict)
    mean: float = UNKNOWN
    p50: float = UNKNOWN
    p90: float = UNKNOWN
    p99: float = UNKNOWN
    top: float = UNKNOWN
    queue_rows: float = UNKNOWN
    live_rows: float = UNKNOWN
    backlog: float = UNKNOWN
    rows_per_call: float = UNKNOWN
    occupancy: float = UNKNOWN
    padding_efficiency: float = UNKNOWN
    busy: float = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a server.

    Attributes:
        over_seconds: the time that rates, durations and means are of.
        since_start: whether that is the time since the process began.
        up_seconds: how long the process has run.
        cpu_cores: that it used, on average.
        cpu_budget_cores: that it may use: its cgroup's quota, or else the threads of an engine call.
        memory_bytes: resident.
        versions: by model and version.
        astray: requests that came to no model, by outcome, without the outcomes that are none.
    """

    over_seconds: float
    since_start: bool
    up_seconds: float
    cpu_cores: float
    cpu_budget_cores: float
    memory_bytes: float
    versions: Mapping[Key, VersionFigures]
    astray: Mapping[str, float]


def figures(now: Moment, before: Moment | None) -> Figures:
    """Return what happened between two moments.

    Args:
        now: the later one.
        before: the earlier one; None for the time since the process began.
    """
    over = now.up_seconds if before is None else now.at_seconds - before.at_seconds
    over = over if over > 0 else UNKNOWN
    increases = _increases(now.values, {} if before is None or _restarted(now, before) else before.values)
    of_versions, shown = _by_version(increases), _by_version(now.values)
    astray = of_versions.pop(NOBODY, {})
    quota = now.value("lstm_cpu_quota_cores")
    return Figures(
        over_seconds=over,
        since_start=before is None,
        up_seconds=now.up_seconds,
        cpu_cores=increases.get(("process_cpu_seconds_total", frozenset()), UNKNOWN) / over,
        cpu_budget_cores=now.value("lstm_cpu_threads") if math.isnan(quota) else quota,
        memory_bytes=now.value("process_resident_memory_bytes"),
        versions={key: _of_version(of_versions[key], shown[key], over) for key in sorted(of_versions)},
        astray=_failed(astray),
    )


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float:
    """Return a quantile as Prometheus's `histogram_quantile` does: linear within a bucket.

    Args:
        share: above 0, up to 1.
        buckets: upper bound and cumulative count of each, in any order, the one without a bound (inf) among them.

    Returns:
        NaN without any observation, and the largest bound if the quantile lies beyond it.
    """
    ordered = sorted(buckets)
    if len(ordered) < 2 or ordered[-1][0] != math.inf or not ordered[-1][1] > 0:
        return UNKNOWN
    rank = share * ordered[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in ordered[:-1]:
        if count >= rank:
            return bound if bound <= 0 else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, max(below, count)
    return ordered[-2][0]


def _restarted(now: Moment, before: Moment) -> bool:
    started, earlier = (each.value("process_start_time_seconds") for each in (now, before))
    return not (math.isnan(started) or math.isnan(earlier)) and started != earlier


def _increases(now: Mapping[Series, float], before: Mapping[Series, float]) -> dict[Series, float]:
    """Return by how much each counter went up; a histogram of which one part went down began anew as a whole."""
    anew = {_whole(series) for series, value in now.items() if value < before.get(series, 0.0)}
    return {
        series: value if _whole(series) in anew else value - before.get(series, 0.0) for series, value in now.items()
    }


def _whole(series: Series) -> Series:
    """Return what a series is part of: its histogram, or itself."""
    name, labels = series
    for part in ("_bucket", "_sum", "_count"):
        if name.endswith(part):
            return name.removesuffix(part), frozenset(pair for pair in labels if pair[0] != "le")
    return series


def _by_version(values: Mapping[Series, float]) -> dict[Key, dict[Series, float]]:
    """Return what is of each version, without the labels that say so."""
    found: dict[Key, dict[Series, float]] = defaultdict(dict)
    for (name, labels), value in values.items():
        named = dict(labels)
        if "model" in named and "version" in named:
            key = named.pop("model"), named.pop("version")
            found[key][name, frozenset(named.items())] = value
    return found


def _of_version(increases: Mapping[Series, float], shown: Mapping[Series, float], over: float) -> VersionFigures:
    def increase(name: str, **labels: str) -> float:
        return increases.get((name, frozenset(labels.items())), UNKNOWN)

    def gauge(name: str) -> float:
        return shown.get((name, frozenset()), UNKNOWN)

    def mean(name: str, **labels: str) -> float:
        return _ratio(increase(f"{name}_sum", **labels), increase(f"{name}_count", **labels))

    ended = _outcomes(increases)
    durations = {
        float(dict(labels).get("le", UNKNOWN)): value
        for (name, labels), value in increases.items()
        if name == "lstm_request_seconds_bucket" and ("outcome", OK) in labels
    }
    info = next((dict(labels) for name, labels in shown if name == "lstm_model_info"), {})
    return VersionFigures(
        precision=info.get("precision", ""),
        engine=info.get("engine", ""),
        total=sum(_outcomes(shown).values()) if ended else UNKNOWN,
        requests=sum(ended.values()) / over if ended else UNKNOWN,
        rows=increase("lstm_rows_total") / over,
        errors=sum(value for outcome, value in ended.items() if outcome != OK) / over if ended else UNKNOWN,
        failed=_failed(increases),
        mean=mean("lstm_request_seconds", outcome=OK),
        p50=quantile(0.5, durations.items()),
        p90=quantile(0.9, durations.items()),
        p99=quantile(0.99, durations.items()),
        top=max((bound for bound in durations if bound != math.inf), default=UNKNOWN),
        queue_rows=gauge("lstm_queue_rows"),
        live_rows=gauge("lstm_live_rows"),
        backlog=gauge("lstm_backlog_seconds"),
        rows_per_call=mean("lstm_batch_rows"),
        occupancy=mean("lstm_batch_occupancy_ratio"),
        padding_efficiency=_ratio(increase("lstm_batch_steps_sum"), increase("lstm_batch_padded_steps_total")),
        busy=increase("lstm_engine_run_seconds_sum") / over,
    )


def _outcomes(values: Mapping[Series, float]) -> dict[str, float]:
    """Return the requests that ended with each outcome."""
    return {dict(labels).get("outcome", ""): value for (name, labels), value in values.items() if name == REQUESTS}


def _failed(values: Mapping[Series, float]) -> dict[str, float]:
    """Return those outcomes that are no answers and that there were some of."""
    return {outcome: value for outcome, value in sorted(_outcomes(values).items()) if outcome != OK and value > 0}


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else UNKNOWN
