"""A real Prometheus looks at a real server, and knows all that the rules, the dashboard and autoscaling ask."""

import math
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.monitoring import (
    JOB,
    MONITORING,
    NAMESPACE,
    POD,
    Expression,
    adapter_query,
    dashboard_expressions,
    every_expression,
    keda_query,
    read_yaml,
    rules,
    write_rules,
)
from tests.deploy.prometheus import Prometheus, needs, prometheus, until
from tests.deploy.traffic import busy_server

LOOKS = 15
"""Of Prometheus at the server, before anything is asked: rates need two, and rules theirs."""


def scrape_configuration(url: str) -> dict[str, Any]:
    """Return what the Prometheus Operator makes of the ServiceMonitor, for one pod at the address.

    The labels are those that it adds to each pod behind a Service. Only how often it looks is another: every second.
    """
    monitor = read_yaml(MONITORING / "service-monitor.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "scheme", "interval", "scrapeTimeout"}, "nothing here is left out"
    labels = {"namespace": NAMESPACE, "pod": POD, "service": "lstm-serve", "container": "lstm-serve"}
    return {
        "job_name": JOB,
        "metrics_path": endpoint["path"],
        "scheme": endpoint["scheme"],
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [
            {"targets": [urllib.parse.urlsplit(url).netloc], "labels": {**labels, "endpoint": endpoint["port"]}}
        ],
    }


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has looked at a busy server for a while, and goes on."""
    needs("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with busy_server(tmp_path_factory.mktemp("models")) as server:
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [str(path) for path in write_rules(folder, keep_intervals=False)],
            "scrape_configs": [scrape_configuration(server.metrics_url)],
        }
        with prometheus(folder, configuration) as running:
            until(lambda: any(value >= LOOKS for _, value in running.query("count_over_time(lstm_ready[5m])")))
            yield running


def test_every_rule_is_evaluated_without_an_error(watching: Prometheus) -> None:
    until(lambda: all(rule["health"] != "unknown" for rule in watching.rules()))
    evaluated = watching.rules()

    assert len(evaluated) == len(rules())
    assert [(rule["name"], rule.get("lastError")) for rule in evaluated if rule["health"] != "ok"] == []


def test_what_happened_is_alerted_on_and_nothing_else(watching: Prometheus) -> None:
    """The server was given a model that it must refuse; its first refusal is a series that begins at 1.

    It also gets deadlines that cannot be kept: after two minutes, should this take so long, its budgets burn as well.
    """

    def firing() -> dict[str, dict[str, dict[str, str]]]:
        found = [alert for rule in watching.rules() for alert in rule.get("alerts", [])]
        return {alert["labels"]["alertname"]: alert for alert in found if alert["state"] == "firing"}

    until(lambda: "LstmModelRefused" in firing())
    alerts = firing()

    assert set(alerts) - {"LstmErrorBudgetBurnsFast", "LstmLatencyBudgetBurnsFast"} == {"LstmModelRefused"}
    assert alerts["LstmModelRefused"]["labels"]["model"] == "refused"
    assert "have refused 1 loads of refused" in alerts["LstmModelRefused"]["annotations"]["description"]


@pytest.mark.parametrize("asked", list(dashboard_expressions()), ids=lambda asked: asked.where)
def test_every_panel_and_every_variable_shows_something(watching: Prometheus, asked: Expression) -> None:
    """None is known to be empty: series are there from a version's load, and a model that is refused makes an alert."""
    until(lambda: bool(watching.query(asked.text)))
    result = watching.query(asked.text)

    assert all(math.isfinite(value) for _, value in result)


@pytest.mark.parametrize("asked", every_expression(), ids=lambda asked: asked.where)
def test_every_expression_can_be_asked(watching: Prometheus, asked: Expression) -> None:
    watching.query(asked.text)


def test_both_autoscalers_see_the_same_backlog(watching: Prometheus) -> None:
    """One has a number for each pod, the other their sum, which it divides by the number of pods."""
    by_pod = watching.query(f"avg({adapter_query()})")
    in_all = watching.query(f"({keda_query()}) / count(lstm_ready)")

    assert [labels for labels, _ in in_all] == [{}]
    assert len(by_pod) == len(in_all) == 1
    together = watching.query(f"avg({adapter_query()}) - on () ({keda_query()}) / on () count(lstm_ready)")
    assert together[0][1] == pytest.approx(0, abs=1e-12)
