"""The autoscaler decides as Kubernetes documents it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.simulate.autoscaler import Autoscaler, recommended
from loadtests.simulate.scenario import Autoscaling, Behaviour, Rule

TARGET = {"metric": "backlog", "target": 1.0}


def scaler(**settings: object) -> Autoscaler:
    return Autoscaler(Autoscaling.model_validate({"targets": [TARGET], "most": 1000} | settings))


@pytest.mark.parametrize(
    ("current", "value", "wanted"),
    [
        (3, 0.2, 6),  # "if the current metric value is 200m, and the desired value is 100m, the number will be doubled"
        (4, 0.05, 2),  # "if the current value is instead 50m, you'll halve the number of replicas"
        (10, 0.109, 10),  # "skips any scaling action if the ratio is sufficiently close to 1.0 (... 0.1 by default)"
        (10, 0.091, 10),
        (10, 0.112, 12),  # rounded up
        (10, 0.088, 9),
    ],
)
def test_the_documented_formula(current: int, value: float, wanted: int) -> None:
    assert recommended(current, [value] * current, target=0.1, tolerance=0.1) == wanted


def test_pods_without_a_value_dampen_either_direction() -> None:
    """Documented: they count as at the target in case of a scale down, and as idle in case of a scale up.

    If that "reverses the scale direction, or is within the tolerance", nothing happens.
    """
    assert recommended(4, [2.0, 2.0, None, None], target=1.0, tolerance=0.1) == 4
    assert recommended(3, [3.0, 3.0, None], target=1.0, tolerance=0.1) == 6
    assert recommended(4, [0.2, 0.2, None, None], target=1.0, tolerance=0.1) == 3
    assert recommended(3, [1.2, 1.2, None], target=1.0, tolerance=0.1) == 3
    assert recommended(3, [None] * 3, target=1.0, tolerance=0.1) == 3


def test_the_documented_scaling_policies_going_down() -> None:
    """Documented: 80 replicas that are to be 10 go by 8 to 72, then by 7.2, rounded up to 8, and below 40 by 4."""
    rules = (Rule(kind="Pods", value=4, period=60), Rule(kind="Percent", value=10, period=60))
    autoscaler = scaler(down=Behaviour(rules=rules), least=10)
    current, seen = 80, []
    for minute in range(1, 16):
        current = autoscaler.decide(60.0 * minute, current, [[10 / current] * current])
        seen.append(current)

    assert seen[:8] == [72, 64, 57, 51, 45, 40, 36, 32]
    assert seen[-1] == 10


def test_the_default_behaviour_going_up() -> None:
    """Documented: 4 pods or as many as there are, whichever is more, every 15 seconds."""
    autoscaler, current, seen = scaler(), 1, []
    for turn in range(5):
        current = autoscaler.decide(15.0 * turn, current, [[100.0] * current])
        seen.append(current)

    assert seen == [5, 10, 20, 40, 80]


def test_within_a_period_a_policy_allows_no_more_than_once() -> None:
    autoscaler = scaler(up=Behaviour(rules=(Rule(kind="Pods", value=2, period=60),)))
    current = autoscaler.decide(0.0, 5, [[9.0] * 5])
    assert current == 7
    assert autoscaler.decide(30.0, current, [[9.0] * 7]) == 7
    assert autoscaler.decide(61.0, current, [[9.0] * 7]) == 9


def test_the_smallest_change_and_none_can_be_selected() -> None:
    rules = (Rule(kind="Percent", value=10, period=60), Rule(kind="Pods", value=5, period=60))
    least = scaler(down=Behaviour(rules=rules, select="Min"))
    assert least.decide(0.0, 100, [[0.1] * 100]) == 95
    assert scaler(down=Behaviour(rules=rules, select="Disabled")).decide(0.0, 100, [[0.1] * 100]) == 100


def test_the_stabilization_window_takes_the_highest_of_the_last_minutes() -> None:
    """Documented: all desired states from the past 5 minutes are considered."""
    autoscaler = scaler()
    assert autoscaler.decide(0.0, 10, [[1.0] * 10]) == 10
    assert autoscaler.decide(150.0, 10, [[0.2] * 10]) == 10
    assert autoscaler.decide(299.0, 10, [[0.5] * 10]) == 10
    assert autoscaler.decide(301.0, 10, [[0.2] * 10]) == 5


def test_of_several_metrics_that_counts_which_asks_for_most() -> None:
    """Documented: "the largest of the desired replica counts is chosen"."""
    autoscaler = scaler(
        targets=[TARGET, {"metric": "cpu", "target": 0.5}], down={"rules": [{"kind": "Percent", "value": 100}]}
    )
    assert autoscaler.decide(0.0, 4, [[2.0] * 4, [0.5] * 4]) == 8
    assert autoscaler.decide(60.0, 8, [[0.0] * 8, [0.7] * 8]) == 12
    assert autoscaler.decide(120.0, 12, [[0.0] * 12, [0.25] * 12]) == 6


def test_a_window_for_scaling_up_takes_the_lowest() -> None:
    autoscaler = scaler(up=Behaviour(window=60, rules=(Rule(kind="Percent", value=900),)))
    assert autoscaler.decide(0.0, 10, [[1.0] * 10]) == 10
    assert autoscaler.decide(30.0, 10, [[3.0] * 10]) == 10
    assert autoscaler.decide(61.0, 10, [[3.0] * 10]) == 30


@given(
    loads=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    bounds=st.tuples(st.integers(1, 20), st.integers(0, 200)),
)
def test_the_bounds_always_hold(loads: list[float], bounds: tuple[int, int]) -> None:
    least, most = bounds[0], bounds[0] + bounds[1]
    autoscaler, current = scaler(least=least, most=most), least
    for turn, load in enumerate(loads):
        current = autoscaler.decide(15.0 * turn, current, [[load / current] * current])
        assert least <= current <= most
