"""Two readings of a server's metrics to figures. The readings are made by the server's own metrics."""

import itertools
import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.metrics import ServerMetrics
from serving.metrics.families import SECONDS_BUCKETS
from serving.status.figures import Figures, Moment, Sample, figures, quantile

START = 1_000_000.0
SECONDS = st.floats(0, 20, allow_subnormal=False)
SHARES = st.floats(0.01, 1)
REQUESTS = st.lists(st.tuples(st.sampled_from(["ok", "invalid", "overload"]), SECONDS), max_size=30)


def moment(metrics: ServerMetrics, at: float, *, started: float = START, **gauges: float) -> Moment:
    """Read what a server shows `at` seconds after its start; the reader's clock said 5000 at `START`."""
    own = {"process_start_time_seconds": started, "lstm_uptime_seconds": at, **gauges}
    samples = [
        Sample(each.name, each.labels, each.value)
        for family in metrics.registry.collect()
        for each in family.samples
        if not each.name.startswith(("process_", "lstm_uptime_")) and not each.name.endswith("_created")
    ]
    samples += [Sample(name, {}, value) for name, value in own.items()]
    return Moment(samples, at_seconds=5000 + started - START + at)


def server(*versions: str) -> ServerMetrics:
    metrics = ServerMetrics(cpu_threads=2)
    for version in versions:
        metrics.model_loaded("m", version, 0.1)
    return metrics


def send(metrics: ServerMetrics, requests: Sequence[tuple[str, float]], version: str = "1") -> None:
    for outcome, seconds in requests:
        metrics.request_ended("m", version, outcome, seconds)


def buckets(observations: Sequence[float], bounds: Sequence[float]) -> list[tuple[float, float]]:
    return [(bound, float(sum(each <= bound for each in observations))) for bound in (*bounds, math.inf)]


def known(found: Figures) -> dict[str, Any]:
    """Return what is known of version 1."""
    of = found.versions["m", "1"]
    values = {name: getattr(of, name) for name in of.__slots__}
    return {name: value for name, value in values.items() if not (isinstance(value, float) and math.isnan(value))}


QUANTILES = [
    (0.5, [(1, 0), (2, 10), (math.inf, 10)], 1.5),
    (0.9, [(1, 0), (2, 10), (math.inf, 10)], 1.9),
    (1.0, [(1, 5), (2, 10), (math.inf, 10)], 2.0),
    (0.5, [(1, 5), (2, 10), (math.inf, 10)], 1.0),
    (0.25, [(1, 4), (2, 8), (math.inf, 8)], 0.5),
    (0.5, [(0.1, 0), (0.2, 0), (0.4, 8), (math.inf, 8)], 0.3),
    (0.99, [(1, 5), (2, 10), (math.inf, 20)], 2.0),
    (0.5, [(math.inf, 20), (2, 10), (1, 5)], 2.0),
    (0.5, [(-1, 10), (2, 10), (math.inf, 10)], -1.0),
]


@pytest.mark.parametrize(("share", "shown", "expected"), QUANTILES)
def test_a_quantile_is_interpolated_in_its_bucket(
    share: float, shown: list[tuple[float, float]], expected: float
) -> None:
    assert quantile(share, shown) == pytest.approx(expected)


def test_prometheus_makes_the_same_of_the_same_buckets(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    series = [
        {"series": f'h_bucket{{case="{number}",le="{"+Inf" if bound == math.inf else bound}"}}', "values": str(count)}
        for number, (_, shown, _) in enumerate(QUANTILES)
        for bound, count in shown
    ]
    expressions = [
        {
            "expr": f'abs(histogram_quantile({share}, h_bucket{{case="{number}"}}) - {expected}) < bool 1e-9',
            "eval_time": "0m",
            "exp_samples": [{"labels": f'{{case="{number}"}}', "value": 1}],
        }
        for number, (share, _, expected) in enumerate(QUANTILES)
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": expressions}]
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"rule_files": [], "tests": tests}), encoding="utf-8")  # JSON is YAML

    ended = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "shown",
    [[], [(1, 3)], [(math.inf, 3)], [(1, 0), (math.inf, 0)], [(1, 1), (2, 3)], [(1, math.nan), (math.inf, math.nan)]],
)
def test_a_quantile_of_nothing_is_unknown(shown: list[tuple[float, float]]) -> None:
    assert math.isnan(quantile(0.5, shown))


@settings(deadline=None)
@given(observations=st.lists(SECONDS, min_size=1), share=SHARES)
def test_a_quantile_is_in_the_bucket_of_the_observation_that_it_stands_for(
    observations: list[float], share: float
) -> None:
    found = quantile(share, buckets(observations, SECONDS_BUCKETS))

    exact = sorted(observations)[max(0, math.ceil(share * len(observations) - 1e-9) - 1)]
    edges = (0.0, *SECONDS_BUCKETS)
    lower, upper = next(
        ((low, high) for low, high in itertools.pairwise(edges) if exact <= high), (edges[-1], edges[-1])
    )
    assert lower - 1e-9 <= found <= upper + 1e-9


@settings(deadline=None)
@given(observations=st.lists(SECONDS, min_size=1), shares=st.tuples(SHARES, SHARES))
def test_a_higher_quantile_is_no_lower(observations: list[float], shares: tuple[float, float]) -> None:
    shown = buckets(observations, SECONDS_BUCKETS)

    assert quantile(min(shares), shown) <= quantile(max(shares), shown)


@settings(deadline=None)
@given(before=REQUESTS, after=REQUESTS, seconds=st.floats(0.1, 1000))
def test_figures_are_of_what_came_in_between(
    before: list[tuple[str, float]], after: list[tuple[str, float]], seconds: float
) -> None:
    metrics = server("1")
    send(metrics, before)
    first = moment(metrics, 10)
    send(metrics, after)

    found = figures(moment(metrics, 10 + seconds), first)
    alone = server("1")
    send(alone, after)
    expected = figures(moment(alone, seconds), None)

    assert (found.since_start, expected.since_start) == (False, True)
    assert found.over_seconds == pytest.approx(seconds)
    shown = known(found)
    assert shown.pop("total") == len(before) + len(after)
    of_after = known(expected)
    assert of_after.pop("total") == len(after)
    failed = shown.pop("failed")
    assert failed == of_after.pop("failed")
    assert sum(failed.values()) == sum(outcome != "ok" for outcome, _ in after)
    assert shown.keys() == of_after.keys()
    assert shown.pop("mean", 0.0) == pytest.approx(of_after.pop("mean", 0.0), abs=1e-6)  # differences of large sums
    for name, value in of_after.items():
        assert shown[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert shown["requests"] * seconds == pytest.approx(len(after))
    assert shown["errors"] * seconds == pytest.approx(sum(failed.values()))


@settings(deadline=None)
@given(before=REQUESTS, after=REQUESTS)
def test_a_server_that_started_anew_has_done_all_that_it_shows(
    before: list[tuple[str, float]], after: list[tuple[str, float]]
) -> None:
    """Whether its counts are lower than those before or higher."""
    old, new = server("1"), server("1")
    send(old, before)
    send(new, after)

    found = figures(moment(new, 10, started=START + 95), moment(old, 100))

    of = found.versions["m", "1"]
    assert of.failed == known(figures(moment(new, 10), None))["failed"]
    assert of.requests * found.over_seconds == pytest.approx(len(after))


def test_a_version_that_was_loaded_anew_counts_from_zero() -> None:
    metrics = server("1")
    send(metrics, [("ok", 0.1), ("invalid", 0.1)] * 3)
    first = moment(metrics, 10)
    metrics.forget("m", "1")
    metrics.model_loaded("m", "1", 0.1)
    send(metrics, [("ok", 0.1), ("invalid", 0.1)])

    of = figures(moment(metrics, 12), first).versions["m", "1"]

    assert (of.requests, of.errors, of.failed) == (1.0, 0.5, {"invalid": 1})


def test_versions_come_and_go() -> None:
    metrics = server("1")
    send(metrics, [("ok", 0.1)])
    first = moment(metrics, 10)
    metrics.forget("m", "1")
    metrics.model_loaded("m", "2", 0.1)
    send(metrics, [("ok", 0.1), ("ok", 0.1)], "2")

    found = figures(moment(metrics, 12), first)

    assert list(found.versions) == [("m", "2")]
    assert found.versions["m", "2"].requests == pytest.approx(1.0)


def test_a_histogram_of_which_one_part_went_down_began_anew_as_a_whole() -> None:
    """Its buckets would otherwise be of different times, and its quantiles of none."""
    old, new = server("1"), server("1")
    send(old, [("ok", 0.02)] * 3)
    send(new, [("ok", 0.02)] * 2 + [("ok", 0.2)] * 2)  # more in all, fewer quick ones

    found = figures(moment(new, 12), moment(old, 10)).versions["m", "1"]

    assert found.p50 == pytest.approx(0.025)
    assert found.p99 == pytest.approx(0.1 + 0.15 * (0.99 * 4 - 2) / 2)


def test_what_is_missing_or_no_number_is_unknown() -> None:
    labels = {"model": "m", "version": "1"}
    now = Moment(
        [
            Sample("lstm_queue_rows", labels, math.nan),
            Sample("lstm_rows_total", labels, math.nan),
            Sample("lstm_live_rows", labels, 3),
        ],
        at_seconds=11,
    )

    found = figures(now, Moment([], at_seconds=10))

    of = found.versions["m", "1"]
    assert of.live_rows == 3
    assert all(map(math.isnan, (of.queue_rows, of.rows, of.requests, of.total, of.p99, of.busy, found.memory_bytes)))
    assert math.isnan(figures(now, None).over_seconds)


def test_two_looks_at_one_time_give_no_rate() -> None:
    metrics = server("1")
    first = moment(metrics, 10)
    send(metrics, [("ok", 0.1)])

    found = figures(moment(metrics, 10), first)

    assert math.isnan(found.versions["m", "1"].requests)
    assert found.versions["m", "1"].mean == pytest.approx(0.1)


def test_the_process_and_requests_that_came_to_no_model() -> None:
    metrics = ServerMetrics(cpu_threads=2, cpu_quota_cores=1.5)
    first = moment(metrics, 10, process_cpu_seconds_total=3.0, process_resident_memory_bytes=5e6)
    for reason in ("invalid", "not_found", "not_found"):
        metrics.not_served(reason)
    now = moment(metrics, 14, process_cpu_seconds_total=5.0, process_resident_memory_bytes=6e6)

    found = figures(now, first)

    assert (found.cpu_cores, found.cpu_budget_cores, found.memory_bytes) == (0.5, 1.5, 6e6)
    assert found.up_seconds == 14
    assert found.astray == {"invalid": 1, "not_found": 2}
    assert found.versions == {}
    without_quota = moment(ServerMetrics(cpu_threads=2), 1)
    assert figures(without_quota, None).cpu_budget_cores == 2
