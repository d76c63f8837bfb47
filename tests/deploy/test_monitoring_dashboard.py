"""The dashboard's file: it is what its rows say, and Grafana can place and name all that is in it."""

import itertools
import re
from collections import Counter
from typing import Any

import pytest

from scripts.dashboard.__main__ import FILE, text
from tests.deploy.monitoring import dashboard, panels

VARIABLES = ["datasource", "namespace", "pod", "model", "version"]


def test_the_file_is_what_the_rows_say() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "make docs writes it again"


def test_it_is_of_grafana_11_and_keeps_its_address() -> None:
    read = dashboard()

    assert 36 <= read["schemaVersion"] <= 41  # 41: Grafana 11.6
    assert read["uid"] == "lstm-serve"
    assert "id" not in read, "each Grafana numbers its dashboards itself"


def test_its_variables_are_those_that_expressions_name() -> None:
    declared = [variable["name"] for variable in dashboard()["templating"]["list"]]
    named = set(re.findall(r"\$\{?(\w+)", str([panel["targets"] for panel in panels()])))

    assert declared == VARIABLES
    assert named - {"__rate_interval"} == set(VARIABLES)


def test_the_questions_come_in_order() -> None:
    assert [row["title"] for row in dashboard()["panels"] if row["type"] == "row"] == [
        "Is it serving?",
        "Is it late?",
        "Why: queue or engine?",
        "Is it full?",
        "Does batching pay?",
        "What is loaded?",
        "How are the processes?",
    ]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_is_and_asks_the_chosen_prometheus(panel: dict[str, Any]) -> None:
    prometheus = {"type": "prometheus", "uid": "${datasource}"}

    assert panel["title"]
    assert panel["description"]
    assert panel["datasource"] == prometheus
    assert panel["fieldConfig"]["defaults"]["unit"] in {"bytes", "ops", "percentunit", "reqps", "s", "short"}
    assert panel["targets"]
    assert all(target["datasource"] == prometheus for target in panel["targets"])
    assert max(Counter(target["refId"] for target in panel["targets"]).values()) == 1


def test_titles_and_numbers_are_unlike() -> None:
    everything = dashboard()["panels"]

    assert len({each["id"] for each in everything}) == len(everything)
    assert len({each["title"] for each in everything}) == len(everything)


def test_panels_lie_beside_each_other_within_the_page() -> None:
    places = [each["gridPos"] for each in dashboard()["panels"]]

    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart_in_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_in_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_in_x or apart_in_y
