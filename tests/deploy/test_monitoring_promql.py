"""Every metric, label and value that is asked for anywhere in `deploy/` is one that a real server shows."""

import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping

import promql_parser as promql
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import reasons
from serving.metrics import ServerMetrics
from tests.deploy.monitoring import Expression, every_expression, rules
from tests.deploy.prometheus import until
from tests.deploy.promql import TARGET_LABELS, UnknownError, labels_of, selectors
from tests.deploy.traffic import busy_server

PROMETHEUS = {
    "up": TARGET_LABELS,
    "ALERTS": TARGET_LABELS | {"alertname", "alertstate", "severity", "model", "version"},
}
"""What Prometheus itself makes."""
ONLY_WITH_A_QUOTA = "lstm_cpu_quota_cores"
OUTCOMES = {"lstm_requests_total": {"ok", *reasons()}, "lstm_model_loads_total": {"loaded", "refused", "unloaded"}}
"""Values of the label, of which a server shows some only once they have come about."""


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Metric]]:
    """What a server shows that has answered requests for each of its models."""
    with busy_server(tmp_path_factory.mktemp("models")) as server:

        def read() -> list[Metric]:
            with urllib.request.urlopen(server.metrics_url, timeout=60) as page:  # noqa: S310  loopback
                return list(text_string_to_metric_families(page.read().decode()))

        def all_have_answered() -> bool:
            samples = [sample for family in read() for sample in family.samples]
            return all(sample.value for sample in samples if sample.name == "lstm_rows_total")

        until(all_have_answered)
        yield read()


@pytest.fixture(scope="module")
def values(exposed: list[Metric]) -> Mapping[str, Mapping[str, set[str]]]:
    """The values of each label of each metric."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sample in [sample for family in exposed for sample in family.samples]:
        found[sample.name].update()
        for label, value in sample.labels.items():
            found[sample.name][label].add(value)
    return found


@pytest.fixture(scope="module")
def known(values: Mapping[str, Mapping[str, set[str]]]) -> dict[str, frozenset[str]]:
    """The labels of each metric: of the server, of Prometheus, and of what rules record."""
    labels = {name: TARGET_LABELS | each.keys() for name, each in values.items()} | PROMETHEUS
    labels.setdefault(ONLY_WITH_A_QUOTA, TARGET_LABELS)
    for rule in rules():
        if "record" in rule:
            labels[rule["record"]] = labels_of(rule["expr"], labels)
    return labels


def test_the_one_metric_that_may_be_missing_is_there_with_a_quota() -> None:
    names = {family.name for family in ServerMetrics(cpu_threads=1, cpu_quota_cores=1.0).registry.collect()}

    assert ONLY_WITH_A_QUOTA in names


@pytest.mark.parametrize("asked", every_expression(), ids=lambda asked: asked.where)
def test_metrics_and_labels_are_there(asked: Expression, known: dict[str, frozenset[str]]) -> None:
    labels = labels_of(asked.text, known)

    assert asked.told <= labels, "what is shown of the result is in it"


@pytest.mark.parametrize("asked", every_expression(), ids=lambda asked: asked.where)
def test_values_of_labels_can_occur(asked: Expression, values: Mapping[str, Mapping[str, set[str]]]) -> None:
    """An outcome or a bucket that is spelled wrong selects nothing, and nobody would notice."""
    for selector in selectors(asked.text):
        for matcher in selector.matchers.matchers:
            if matcher.name in {"outcome", "le"}:
                possible = values[selector.name][matcher.name] | OUTCOMES.get(selector.name, set())
                assert matcher.op in [promql.MatchOp.Equal, promql.MatchOp.Re]
                assert set(matcher.value.split("|")) <= possible, selector.name


@pytest.mark.parametrize(
    "wrong",
    [
        "lstm_request_total",
        'lstm_ready{model="m"}',
        "sum by (model) (lstm_ready)",
        "sum by (version) (sum by (model) (lstm_queue_rows))",
        "lstm_queue_rows / lstm_ready",
        "lstm_queue_rows / on (model) lstm_ready",
        "histogram_quantile(0.9, sum by (model) (rate(lstm_request_seconds_bucket[5m])))",
        "rate(lstm_requests_total{result='ok'}[5m])",
    ],
)
def test_the_check_finds_what_is_not_there(wrong: str, known: dict[str, frozenset[str]]) -> None:
    with pytest.raises(UnknownError):
        labels_of(wrong, known)
