"""What `deploy/` has for Prometheus: its rules and every expression in it, with the place where each is written."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPONENTS = ROOT / "deploy" / "components"
MONITORING = COMPONENTS / "monitoring"
RULE_FILES = sorted((MONITORING / "rules").glob("*.yaml"))
ALERTS_PAGE = ROOT / "docs" / "alerts.md"
NAMESPACE, JOB, POD = "lstm-serving", "lstm-serve", "lstm-serve-0"
RATE_WINDOW = "20s"
"""Of the dashboard's rates in tests, whose Prometheus looks every second."""
VARIABLES = {
    "$namespace": NAMESPACE,
    "$model": ".*",
    "$version": ".*",
    "$pod": ".*",
    "$__rate_interval": RATE_WINDOW,
    "$__range": "1m",
}
"""What Grafana would put into the dashboard's expressions."""


@dataclass(frozen=True)
class Expression:
    """PromQL, and what is made of its result.

    Attributes:
        where: it is written, for messages.
        text: of it, with values in the place of variables.
        told: labels of its result that are shown to a person.
    """

    where: str
    text: str
    told: frozenset[str] = frozenset()


def read_yaml(path: Path) -> Any:
    """Return the one document of a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """Return every rule of every file, alerting and recording."""
    groups = [group for path in RULE_FILES for group in read_yaml(path)["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def write_rules(folder: Path, *, keep_intervals: bool = True) -> list[Path]:
    """Write what each PrometheusRule holds as a file for Prometheus, under the same name; returns the files.

    Args:
        folder: for them.
        keep_intervals: whether groups are evaluated as seldom as they say, or as often as Prometheus evaluates any.
    """
    written = []
    for path in RULE_FILES:
        groups = read_yaml(path)["spec"]["groups"]
        if not keep_intervals:
            groups = [{key: value for key, value in group.items() if key != "interval"} for group in groups]
        target = folder / path.name
        target.write_text(json.dumps({"groups": groups}), encoding="utf-8")  # JSON is YAML
        written.append(target)
    return written


def adapter_rule() -> dict[str, Any]:
    """Return the rule by which the Prometheus Adapter makes a metric of pods."""
    (rule,) = read_yaml(COMPONENTS / "hpa" / "prometheus-adapter-values.yaml")["rules"]["custom"]
    return dict(rule)


def adapter_query() -> str:
    """Return what the Prometheus Adapter asks for one pod's backlog, its template filled in."""
    rule = adapter_rule()
    filled = {
        "<<.Series>>": rule["seriesQuery"].partition("{")[0],
        "<<.LabelMatchers>>": f'namespace="{NAMESPACE}",pod=~"{POD}"',
        "<<.GroupBy>>": "pod",
    }
    return _replaced(rule["metricsQuery"], filled)


def keda_query() -> str:
    """Return what KEDA asks."""
    triggers = read_yaml(COMPONENTS / "keda" / "scaled-object.yaml")["spec"]["triggers"]
    (query,) = [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]
    return str(query)


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    read: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels in their order, but for the rows that head them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[Expression]:
    """Yield what fills each variable, and what each panel asks, with what its legend names."""
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert query is not None, f"{variable['query']}: expected label_values(series, label)"
            series, label = query.groups()
            where = f"dashboard: ${variable['name']}"
            yield Expression(where, f"count by ({label}) ({_replaced(series, VARIABLES)})", frozenset({label}))
    for panel in panels():
        for target in panel["targets"]:
            told = frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
            where = f"dashboard: {panel['title']} {target['refId']}"
            yield Expression(where, _replaced(target["expr"], VARIABLES), told)


def page_queries() -> Iterator[Expression]:
    """Yield the queries of the page of alerts."""
    for query in re.findall(
        r"^```promql\n(.+?)^```$", ALERTS_PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        yield Expression("docs/alerts.md", query)


def every_expression() -> list[Expression]:
    """Return all PromQL that people or machines are to ask Prometheus."""
    of_rules = [
        Expression(
            rule.get("alert") or rule["record"],
            rule["expr"],
            frozenset(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {})))),
        )
        for rule in rules()
    ]
    scaling = [
        Expression(
            "prometheus-adapter-values.yaml: series", adapter_rule()["seriesQuery"], frozenset({"namespace", "pod"})
        ),
        Expression("prometheus-adapter-values.yaml: metric", adapter_query(), frozenset({"pod"})),
        Expression("scaled-object.yaml", keda_query()),
    ]
    return [*of_rules, *dashboard_expressions(), *scaling, *page_queries()]


def _replaced(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text
