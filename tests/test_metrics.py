"""What is counted, under which labels, and when a series goes away again."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import disable_created_metrics, enable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serving.batching import Batch, Span
from serving.errors import Draining, InvalidRequest, Overloaded, ServingError, reasons
from serving.metrics import ServerMetrics
from serving.statistics import Total
from serving.wire.status import STATUS_CODES

LABELS = {"model": "lstm", "version": "1"}
SECOND_NS = 1_000_000_000
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENDS = st.tuples(st.sampled_from(["ok", *sorted(reasons())]), st.floats(0, 100))


@pytest.fixture(autouse=True)
def without_creation_times() -> Iterator[None]:
    """As the server does it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    yield
    enable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture
def metrics() -> ServerMetrics:
    return ServerMetrics(cpu_threads=2)


def value(metrics: ServerMetrics, name: str, **labels: str) -> float | None:
    """Return one sample, None if it is not there."""
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: ServerMetrics, **labels: str) -> set[str]:
    """Name the samples that have these labels."""
    return {
        sample.name
        for family in metrics.registry.collect()
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }


def batch(*lengths: int, most_rows: int = 8, predicted_seconds: float = 0.5) -> Batch:
    """Make a call of rows of such lengths."""
    return Batch(
        spans=tuple(Span(1, row, 0, steps) for row, steps in enumerate(lengths)),
        steps=max(lengths),
        real_steps=sum(lengths),
        predicted_seconds=predicted_seconds,
        company=len(lengths),
        most_rows=most_rows,
    )


def test_every_error_that_has_a_status_is_counted_under_its_reason(metrics: ServerMetrics) -> None:
    metrics.of_model("lstm", "1")

    for error in STATUS_CODES:
        metrics.request_ended("lstm", "1", error.reason, 0.1)
        metrics.not_served(error.reason)

    for error in STATUS_CODES:
        assert value(metrics, "lstm_requests_total", **LABELS, outcome=error.reason) == 1
        assert value(metrics, "lstm_requests_total", model="", version="", outcome=error.reason) == 1


def test_a_version_has_a_series_for_each_outcome_before_the_first_request(metrics: ServerMetrics) -> None:
    """A series that begins at 1 shows no increase."""
    metrics.of_model("lstm", "1")

    assert value(metrics, "lstm_requests_total", **LABELS, outcome="ok") == 0
    assert value(metrics, "lstm_requests_total", **LABELS, outcome=Overloaded.reason) == 0


def test_refusals_are_timed_apart_from_answers(metrics: ServerMetrics) -> None:
    metrics.of_model("lstm", "1")
    metrics.request_ended("lstm", "1", "ok", 2.0)
    metrics.request_ended("lstm", "1", InvalidRequest.reason, 0.25)
    metrics.request_ended("lstm", "1", Overloaded.reason, 0.5)

    sums = [value(metrics, "lstm_request_seconds_sum", **LABELS, outcome=outcome) for outcome in ("ok", "error")]
    assert sums == [2.0, 0.75]


def test_an_engine_call_is_told_with_its_rows_steps_padding_and_parts(metrics: ServerMetrics) -> None:
    version = metrics.of_model("lstm", "1")
    call = batch(10, 6)

    version.batch_started(call, waits_ns=[SECOND_NS, 3 * SECOND_NS])
    assert value(metrics, "lstm_running_rows", **LABELS) == 2
    version.batch_ran(call, pack_ns=SECOND_NS, engine_ns=5 * SECOND_NS, scatter_ns=2 * SECOND_NS)

    expected = {
        "lstm_running_rows": 0,
        "lstm_queue_delay_seconds_sum": 4,
        "lstm_queue_delay_seconds_count": 2,
        "lstm_engine_run_seconds_sum": 8,
        "lstm_pack_seconds_total": 1,
        "lstm_scatter_seconds_total": 2,
        "lstm_batch_rows_sum": 2,
        "lstm_batch_steps_sum": 16,
        "lstm_batch_padded_steps_total": 20,
        "lstm_padding_efficiency_ratio_sum": 0.8,
        "lstm_batch_occupancy_ratio_sum": 0.25,
    }
    assert {name: value(metrics, name, **LABELS) for name in expected} == expected


def test_predicted_and_measured_cost_are_summed_and_compared(metrics: ServerMetrics) -> None:
    version = metrics.of_model("lstm", "1")

    version.cost_learned(batch(1, predicted_seconds=0.5), seconds=0.25)
    version.cost_learned(batch(1, predicted_seconds=1.5), seconds=3.0)

    assert value(metrics, "lstm_cost_predicted_seconds_total", **LABELS) == 2.0
    assert value(metrics, "lstm_cost_measured_seconds_total", **LABELS) == 3.25
    assert value(metrics, "lstm_cost_error_ratio_sum", **LABELS) == 2.5
    assert value(metrics, "lstm_cost_error_ratio_bucket", **LABELS, le="0.5") == 1


def test_a_forgotten_version_leaves_nothing_behind(metrics: ServerMetrics) -> None:
    for number in ("1", "2"):
        metrics.of_model("lstm", number)
        metrics.describe_model("lstm", number, precision="int8", engine="native")
    others = series(metrics, model="lstm", version="2")
    assert series(metrics, **LABELS) == others

    metrics.forget("lstm", "1")

    assert series(metrics, **LABELS) == set()
    assert series(metrics, model="lstm", version="2") == others
    assert [each.version for each in metrics.statistics()] == ["2"]


def test_work_that_ends_after_its_version_was_forgotten_brings_no_series_back(metrics: ServerMetrics) -> None:
    version = metrics.of_model("lstm", "1")
    call = batch(1)
    version.batch_started(call, waits_ns=[0])

    metrics.forget("lstm", "1")
    metrics.forget("lstm", "1")
    version.batch_ran(call, pack_ns=0, engine_ns=1, scatter_ns=0)
    version.rows_done(1)
    version.cost_learned(call, seconds=1.0)
    metrics.request_ended("lstm", "1", "ok", 0.1)
    metrics.request_ended("lstm", "1", ServingError.reason, 0.1)

    assert series(metrics, **LABELS) == set()


class Watched:
    """Stands for what a runner's gauges hold on to."""

    def __init__(self, rows: float) -> None:
        self.rows = rows

    def report_to(self, metrics: ServerMetrics) -> None:
        rows = lambda: self.rows  # noqa: E731  holds on to self, as a runner's do
        metrics.of_model("lstm", "1").watch(waiting_rows=rows, live_rows=rows, backlog_seconds=rows)


def test_a_forgotten_version_is_not_kept_alive_by_its_gauges(metrics: ServerMetrics) -> None:
    watched = Watched(3)
    watched.report_to(metrics)
    assert value(metrics, "lstm_live_rows", **LABELS) == 3
    held = weakref.ref(watched)
    del watched
    gc.collect()
    assert held() is not None, "the gauges still show it"

    metrics.forget("lstm", "1")
    gc.collect()

    assert held() is None


def test_a_version_loaded_again_goes_on_counting_and_takes_over_the_gauges(metrics: ServerMetrics) -> None:
    old, new = Watched(3), Watched(5)
    old.report_to(metrics)
    metrics.describe_model("lstm", "1", precision="fp32", engine="onnxruntime")
    metrics.request_ended("lstm", "1", "ok", 0.1)
    held = weakref.ref(old)
    del old

    new.report_to(metrics)
    metrics.describe_model("lstm", "1", precision="int8", engine="native")
    metrics.request_ended("lstm", "1", "ok", 0.1)
    gc.collect()

    assert value(metrics, "lstm_requests_total", **LABELS, outcome="ok") == 2
    gauges = ("lstm_queue_rows", "lstm_live_rows", "lstm_backlog_seconds")
    assert [value(metrics, name, **LABELS) for name in gauges] == [5, 5, 5]
    assert held() is None
    assert value(metrics, "lstm_model_info", **LABELS, precision="int8", engine="native") == 1
    assert value(metrics, "lstm_model_info", **LABELS, precision="fp32", engine="onnxruntime") is None


def test_loads_are_counted_by_model_and_outcome_and_outlive_the_version(metrics: ServerMetrics) -> None:
    metrics.model_loaded("lstm", "1", 2.5)
    assert value(metrics, "lstm_model_loads_total", model="lstm", outcome="refused") == 0
    metrics.model_refused("lstm")
    metrics.model_unloaded("lstm")
    metrics.forget("lstm", "1")

    outcomes = ("loaded", "refused", "unloaded")
    counts = [value(metrics, "lstm_model_loads_total", model="lstm", outcome=outcome) for outcome in outcomes]
    assert counts == [1, 1, 1]
    assert value(metrics, "lstm_model_load_seconds_sum", model="lstm") == 2.5


def test_the_quota_is_there_only_if_one_is_set(metrics: ServerMetrics) -> None:
    assert value(metrics, "lstm_cpu_quota_cores") is None
    assert value(ServerMetrics(cpu_threads=1, cpu_quota_cores=1.5), "lstm_cpu_quota_cores") == 1.5


def test_openmetrics_shows_the_trace_of_a_slow_request_and_plain_text_goes_without(metrics: ServerMetrics) -> None:
    metrics.of_model("lstm", "1")
    metrics.request_ended("lstm", "1", "ok", 0.2, trace_id=TRACE)
    metrics.request_ended("lstm", "1", "ok", 7.0)

    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    families = parse_openmetrics(encode(metrics.registry).decode())
    encode_text, _ = choose_encoder("text/plain")
    text = encode_text(metrics.registry).decode()

    assert content_type.startswith("application/openmetrics-text")
    exemplars = [
        (sample.name, sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplars == [("lstm_request_seconds_bucket", "0.25", {"trace_id": TRACE}, 0.2)]
    assert TRACE not in text
    assert "lstm_requests" in {family.name for family in parse_text(text)}


@given(st.lists(ENDS, max_size=20))
def test_statistics_are_the_sums_of_what_was_reported(ends: list[tuple[str, float]]) -> None:
    metrics = ServerMetrics(cpu_threads=1)
    metrics.of_model("lstm", "1")
    metrics.of_model("lstm", "2")
    for outcome, seconds in ends:
        metrics.request_ended("lstm", "1", outcome, seconds)

    used, unused = metrics.statistics()

    good = [seconds for outcome, seconds in ends if outcome == "ok"]
    bad = [seconds for outcome, seconds in ends if outcome != "ok"]
    assert used.success == Total(count=len(good), seconds=pytest.approx(sum(good)))
    assert used.fail == Total(count=len(bad), seconds=pytest.approx(sum(bad)))
    counted = Counter(outcome for outcome, _ in ends)
    assert all(value(metrics, "lstm_requests_total", **LABELS, outcome=each) == counted[each] for each in reasons())
    assert unused.success == unused.fail == Total(count=0, seconds=0.0)


def test_statistics_tell_the_parts_of_engine_calls_and_rows_apart(metrics: ServerMetrics) -> None:
    version = metrics.of_model("lstm", "1")
    for _ in range(2):
        version.batch_started(batch(3, 3), waits_ns=[SECOND_NS])
        version.batch_ran(batch(3, 3), pack_ns=SECOND_NS, engine_ns=5 * SECOND_NS, scatter_ns=2 * SECOND_NS)
    version.rows_done(2)

    (told,) = metrics.statistics()

    assert (told.rows, told.engine_calls) == (2, 2)
    assert told.queue == Total(count=2, seconds=2.0)
    parts = [(part.count, part.seconds) for part in (told.pack, told.engine, told.scatter)]
    assert parts == [(2, 2.0), (2, 10.0), (2, 4.0)]


def test_the_last_answer_has_a_time_of_day_and_errors_are_none(metrics: ServerMetrics) -> None:
    metrics.of_model("lstm", "1")
    metrics.request_ended("lstm", "1", Draining.reason, 0.1)
    assert metrics.statistics()[0].last_ok_seconds == 0

    metrics.request_ended("lstm", "1", "ok", 0.1)

    year_2026 = 1_767_225_600
    assert metrics.statistics()[0].last_ok_seconds > year_2026, "seconds since the epoch, not of a monotonic clock"


def test_versions_are_told_in_the_order_of_their_numbers(metrics: ServerMetrics) -> None:
    for number in ("10", "9", "2"):
        metrics.of_model("lstm", number)

    assert [each.version for each in metrics.statistics()] == ["2", "9", "10"]
