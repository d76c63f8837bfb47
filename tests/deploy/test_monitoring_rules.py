"""The alerts and recording rules, as promtool judges them: each alert fires when it should, and not just before."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.errors import reasons
from serving.metrics.families import SECONDS_BUCKETS
from tests.deploy.monitoring import ALERTS_PAGE, alerts, read_yaml, rules, write_rules
from tests.deploy.prometheus import needs

CASES = sorted((Path(__file__).parent / "promtool").glob("*.yaml"))
PAGE = ALERTS_PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (Lstm\w+)\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
ALERT = {alert["alert"]: alert for alert in alerts()}


def promtool(*arguments: str | Path, within: Path) -> subprocess.CompletedProcess[str]:
    needs("promtool")
    return subprocess.run(
        ["promtool", *arguments], cwd=within, capture_output=True, text=True, check=False, timeout=300
    )


def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    checked = promtool("check", "rules", "--lint-fatal", *write_rules(tmp_path), within=tmp_path)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert sum(map(int, re.findall(r"SUCCESS: (\d+) rules found", checked.stdout))) == len(rules())


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_just_before(cases: Path, tmp_path: Path) -> None:
    write_rules(tmp_path, keep_intervals=False)  # days of samples are evaluated as often as the case says
    copy = tmp_path / f"test-{cases.name}"
    copy.write_text(cases.read_text(encoding="utf-8"), encoding="utf-8")

    tested = promtool("test", "rules", copy, within=tmp_path)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_case_that_fires_and_one_that_comes_near() -> None:
    fires, near = set(), set()
    for case in [case for path in CASES for case in read_yaml(path)["tests"]]:
        for expected in case["promql_expr_test"]:
            (name,) = re.findall(r'alertname="(\w+)"', expected["expr"]) or [None]
            if expected["exp_samples"]:
                fires.add(name)
            if "near" in " ".join(each["series"] for each in case["input_series"]):
                near.add(name)

    assert fires - {None} == near - {None} == set(ALERT)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]

    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/alerts.md#{name.lower()}"
    assert len(annotations["summary"]) < 100 < len(annotations["description"])


def test_the_page_has_a_section_for_each_alert_and_for_nothing_else() -> None:
    assert list(SECTIONS) == list(dict.fromkeys(SECTIONS))
    assert set(SECTIONS) == set(ALERT)
    for name, section in SECTIONS.items():
        parts = re.findall(r"^\*\*(.+?)\.\*\*", section, re.MULTILINE)
        assert parts == ["What it means", "Find the cause", "What to do"], name
        assert "```promql" in section, name


def test_links_of_the_page_lead_somewhere() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}

    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
    for path in re.findall(r"\]\(([\w./]+\.md)", PAGE):
        assert (ALERTS_PAGE.parent / path).is_file(), path


def test_every_outcome_is_judged_and_the_rules_judge_as_the_page_does() -> None:
    judged = {
        outcome: verdict
        for outcomes, verdict in re.findall(r"^\| (`.+?`) \| (good|failed|left out) \|", PAGE, re.MULTILINE)
        for outcome in re.findall(r"`(\w+)`", outcomes)
    }
    failed = {outcome for outcome, verdict in judged.items() if verdict == "failed"}
    slo = " ".join(rule["expr"] for rule in rules() if "record" in rule or "BudgetBurns" in rule["alert"])
    selections = {frozenset(each.split("|")) for each in re.findall(r'outcome=~"([^"]+)"', slo)}

    assert set(judged) == {"ok", *reasons()}
    assert judged["ok"] == "good"
    assert selections == {frozenset(failed), frozenset({"ok", *failed})}


def test_the_bound_of_latency_is_an_edge_of_the_buckets_and_everywhere_the_same() -> None:
    bounds = {bound for rule in rules() for bound in re.findall(r'le="([\d.]+)"', rule["expr"])}

    assert len(bounds) == 1
    assert float(bounds.pop()) in SECONDS_BUCKETS


def test_shares_are_recorded_for_every_window_and_each_from_its_own() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    indicators = ("lstm_requests_failed", "lstm_answers_late")

    assert set(recorded) == {
        f"namespace_job_model:{indicator}:ratio_rate{window}" for indicator in indicators for window in WINDOWS
    }
    for name, expression in recorded.items():
        assert set(re.findall(r"\[(\w+)\]", expression)) == {name.rpartition("ratio_rate")[2]}


@pytest.mark.parametrize(
    ("name", "budget", "burns"),
    [
        ("LstmErrorBudgetBurnsFast", "0.001", {("1h", "14.4"), ("5m", "14.4"), ("6h", "6"), ("30m", "6")}),
        ("LstmErrorBudgetBurnsSlowly", "0.001", {("1d", "3"), ("2h", "3"), ("3d", "1"), ("6h", "1")}),
        ("LstmLatencyBudgetBurnsFast", "0.01", {("1h", "14.4"), ("5m", "14.4"), ("6h", "6"), ("30m", "6")}),
        ("LstmLatencyBudgetBurnsSlowly", "0.01", {("1d", "3"), ("2h", "3"), ("3d", "1"), ("6h", "1")}),
    ],
)
def test_budgets_burn_as_the_workbook_has_it(name: str, budget: str, burns: set[tuple[str, str]]) -> None:
    found = re.findall(r"ratio_rate(\w+) > ([\d.]+) \* ([\d.]+)", ALERT[name]["expr"])

    assert {(window, rate) for window, rate, _ in found} == burns
    assert {each for *_, each in found} == {budget}
