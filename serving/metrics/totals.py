"""Reads back what was counted of each model version, for those who ask over gRPC: the numbers that `/metrics` shows."""

from collections import defaultdict
from collections.abc import Iterable

from serving.metrics.families import OK, VersionFamilies
from serving.statistics import Total, VersionStatistics

Samples = dict[tuple[str, bool], float]
"""Of one version, by sample name and whether they are of the outcome ok."""


def statistics(families: VersionFamilies, versions: Iterable[tuple[str, str]]) -> list[VersionStatistics]:
    """Return the totals of the given versions (model, version), in their order."""
    samples: dict[tuple[str, str], Samples] = defaultdict(lambda: defaultdict(float))
    for family in (
        *(families.request_seconds, families.rows, families.last_request, families.queue_delay),
        *(families.engine_run, families.pack_seconds, families.scatter_seconds),
    ):
        for metric in families.collect(family):
            for sample in metric.samples:
                labels = sample.labels
                samples[labels["model"], labels["version"]][sample.name, labels.get("outcome") == OK] += sample.value
    return [_of_version(model, version, samples[model, version]) for model, version in versions]


def _of_version(model: str, version: str, samples: Samples) -> VersionStatistics:
    def total(name: str, *, ok: bool = False) -> Total:
        return Total(count=int(samples[f"{name}_count", ok]), seconds=samples[f"{name}_sum", ok])

    whole = total("lstm_engine_run_seconds")
    calls = whole.count
    pack_seconds, scatter_seconds = (samples[f"lstm_{part}_seconds_total", False] for part in ("pack", "scatter"))
    return VersionStatistics(
        model=model,
        version=version,
        rows=int(samples["lstm_rows_total", False]),
        engine_calls=calls,
        last_ok_seconds=samples["lstm_last_request_timestamp_seconds", False],
        success=total("lstm_request_seconds", ok=True),
        fail=total("lstm_request_seconds"),
        queue=total("lstm_queue_delay_seconds"),
        pack=Total(count=calls, seconds=pack_seconds),
        engine=Total(count=calls, seconds=max(0.0, whole.seconds - pack_seconds - scatter_seconds)),
        scatter=Total(count=calls, seconds=scatter_seconds),
    )
