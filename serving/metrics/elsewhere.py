"""What is counted outside of Python, and read when the metrics are: it is added to what Python counts."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serving.counted import Counted, Durations, Snapshot


class Source(Protocol):
    """Who counts."""

    def snapshot(self) -> Snapshot:
        """Return the counts of this moment."""

    def forget(self, model: str, version: str) -> None:
        """Drop the counts of a version that is not reported on any more."""


More = Callable[[Sample], float]
"""Returns what was counted elsewhere of what a sample shows."""


class Merged(Collector):
    """A family of metrics as Python counts it, with what is counted elsewhere."""

    def __init__(self, family: MetricWrapperBase, more: Callable[[], More | None], merge: Callable[..., float]) -> None:
        """Show a family.

        Args:
            family: that Python counts; in no registry of its own.
            more: asked once for every reading; None if nothing is counted elsewhere.
            merge: two values to one.
        """
        self._family = family
        self._more = more
        self._merge = merge

    def collect(self) -> Iterator[Metric]:
        """Return the family's metrics."""
        more = self._more()
        for metric in self._family.collect():
            if more is not None:
                metric.samples = [
                    sample._replace(value=self._merge(sample.value, more(sample))) for sample in metric.samples
                ]
            yield metric


def outcomes(snapshot: Snapshot) -> More:
    """Return what there is of `lstm_requests`."""

    def more(sample: Sample) -> float:
        labels = sample.labels
        if not sample.name.endswith("_total"):
            return 0.0
        if not labels["model"]:
            return snapshot.not_served.get(labels["outcome"], 0)
        counted = snapshot.versions.get((labels["model"], labels["version"]))
        return 0.0 if counted is None else counted.outcomes.get(labels["outcome"], 0)

    return more


def durations(snapshot: Snapshot, bounds: Iterable[float], of: Callable[[Counted, Sample], Durations]) -> More:
    """Return what there is of a histogram with these upper bounds, in seconds."""
    positions = {bound: position for position, bound in enumerate((*bounds, math.inf))}

    def more(sample: Sample) -> float:
        counted = snapshot.versions.get((sample.labels["model"], sample.labels["version"]))
        if counted is None:
            return 0.0
        found = of(counted, sample)
        if sample.name.endswith("_bucket"):
            return list(accumulate(found.buckets))[positions[float(sample.labels["le"])]]
        if sample.name.endswith("_count"):
            return sum(found.buckets)
        return found.seconds if sample.name.endswith("_sum") else 0.0

    return more


def last_answers(snapshot: Snapshot) -> More:
    """Return what there is of `lstm_last_request_timestamp_seconds`."""

    def more(sample: Sample) -> float:
        counted = snapshot.versions.get((sample.labels["model"], sample.labels["version"]))
        return 0.0 if counted is None else counted.last_ok_at

    return more
