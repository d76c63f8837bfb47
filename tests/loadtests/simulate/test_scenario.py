"""Scenarios that cannot be are refused, with what is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.simulate.costs import MEASURED, EngineCost, Measured
from serving.manifest import first_problem
from tests.loadtests.simulate.house import scenario

SCALING: dict[str, Any] = {"targets": [{"metric": "backlog", "target": 0.1}], "most": 5}
TABLE = {"rows": [1, 8], "steps": [1, 8], "table": [[1.0, 1.0], [1.0, 1.0]]}


def scaling_on(metric: str, target: float) -> dict[str, Any]:
    return SCALING | {"targets": [*SCALING["targets"], {"metric": metric, "target": target}]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"replicas__count": 0}, "greater than or equal to 1"),
        ({"traffic__rate": -1.0}, "greater than 0"),
        ({"traffic__rate": float("nan")}, "finite"),
        ({"balance__policy": "fastest"}, "'round_robin'"),
        ({"balance__proxies": 0}, "greater than or equal to 1"),
        ({"seconds": 0.0}, "greater than 0"),
        ({"warm_up": 2.0}, "nothing would count"),
        ({"replicas__slow": 4}, "4 slow replicas of 3"),
        ({"replicas__deaths": [{"at": 1.0, "count": 4}]}, "4 replicas are to die, and there are 3"),
        ({"replicas__deaths": [{"at": 2.5}]}, "would not happen"),
        ({"replicas__deaths": [{"at": 1.0}], "cost__load": 3.0}, "none would ever become ready"),
        ({"autoscaling": SCALING, "replicas__start_up": {"pull": 60}}, "takes 60.2 seconds to start and the run 2"),
        ({"autoscaling": scaling_on("backlog", 0.6)}, "no deadline is longer than 0.5"),
        ({"autoscaling": scaling_on("in_flight", 300)}, "takes 256 at most"),
        ({"autoscaling": scaling_on("cpu", 1.5)}, "which no replica exceeds"),
        ({"autoscaling": scaling_on("queue", 1)}, "'backlog'"),
        ({"autoscaling": SCALING | {"targets": []}}, "at least 1 item"),
        ({"autoscaling": SCALING | {"least": 6}}, "exchange them"),
        ({"autoscaling": SCALING | {"most": 2}}, "begins with 3 replicas, expected 1 to 2"),
        ({"traffic__lengths": {"shortest": 500}}, "exchange them"),
        ({"traffic__patience": [{"seconds": 1, "share": 0.5}]}, "add up to 0.5"),
        ({"traffic__patience": []}, "add up to 0"),
        ({"retries": {"attempts": 0}}, "greater than or equal to 1"),
        ({"retries": {"budget": 2.0}}, "less than or equal to 1"),
        ({"replicas__policy": {"batching": "lifo"}}, "'auto'"),
        ({"replicas__speed": 1.0}, "Extra inputs"),
        ({"cost__engine": TABLE | {"table": [[1.0, -1.0], [1.0, 1.0]]}}, "greater than 0"),
        ({"cost__engine": TABLE | {"table": [[1.0, 1.0]]}}, "not of 2 rows and 2 steps"),
        ({"cost__engine": TABLE | {"rows": [8, 1]}}, "rows of the table are (8, 1), expected increasing numbers"),
    ],
)
def test_an_impossible_scenario_is_refused_with_the_reason(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        scenario(**changes)

    assert why in str(refused.value)
    assert first_problem(refused.value)


def test_the_committed_costs_can_be_read() -> None:
    assert Measured.read(MEASURED).models


def test_between_and_beyond_measured_shapes_a_call_takes_in_proportion() -> None:
    bent = EngineCost(rows=(1, 2, 10), steps=(10, 20), table=((1.0, 2.0), (1.2, 2.2), (2.0, 3.0)))

    assert bent.seconds(1, 10) == 1.0
    assert bent.seconds(6, 15) == pytest.approx(2.1)
    assert bent.seconds(14, 40) == pytest.approx(2.4 + 3 * 1.0)
    assert bent.slower(2.0).seconds(6, 15) == pytest.approx(4.2)
