"""The questions that the report answers, as scenarios."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from loadtests.simulate.costs import Measured, ModelCost
from loadtests.simulate.scenario import BalancePolicy, Scenario

POLICIES: tuple[BalancePolicy, ...] = get_args(BalancePolicy)
FRONTS, COMPUTES = "medium", "wide"
"""A model of which the front is a good part, for questions of balance; and one that computes, for those of scale."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a question.

    Attributes:
        question: it belongs to.
        setting: of the run, in words.
        scenario: that is run.
    """

    question: str
    setting: str
    scenario: Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is simulated.

    Attributes:
        replicas: of the fleet that is balanced.
        requests: of each run of it.
        day_seconds: of the traffic that is scaled for.
        most: replicas of the largest fleet.
    """

    replicas: int
    requests: int
    day_seconds: float
    most: int


QUICK = Effort(replicas=30, requests=24_000, day_seconds=900.0, most=100)
FULL = Effort(replicas=100, requests=150_000, day_seconds=3600.0, most=1000)


def cases(measured: Measured, effort: Effort) -> list[Case]:
    """Return all runs of all questions."""
    medium, wide = measured.models[FRONTS], measured.models[COMPUTES]
    return [
        *_balance(medium, effort),
        *_proxies(medium, effort),
        *_staleness(medium, effort),
        *_deaths(medium, effort),
        *_retries(medium, effort),
        *_scaling(wide, effort),
        *_fleet(medium, effort),
    ]


def _steady(cost: ModelCost, effort: Effort, *, load: float, **changes: Any) -> Scenario:  # noqa: ANN401  settings
    """Return a fleet under constant load, of which the last three quarters count.

    Args:
        cost: of the model.
        effort: its size.
        load: over what its replicas can do at best.
        changes: of the scenario's parts.
    """
    rate = load * cost.peak * effort.replicas
    seconds = effort.requests / rate
    content: dict[str, Any] = {
        "seconds": seconds,
        "warm_up": seconds / 4,
        "cost": cost.model_dump(),
        "traffic": {"rate": rate, "patience": _patience(cost)},
        "replicas": {"count": effort.replicas},
    }
    for part, settings in changes.items():
        content[part] = content.get(part, {}) | settings
    return Scenario.model_validate(content)


def _patience(cost: ModelCost) -> list[dict[str, float]]:
    """Return deadlines in proportion to what the model takes: half of them short, half of them long."""
    call = cost.engine.seconds(32, 60)
    return [{"seconds": 5 * call, "share": 0.5}, {"seconds": 25 * call, "share": 0.5}]


def _balance(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    slow = {"count": effort.replicas, "slow": max(1, effort.replicas // 20), "slow_speed": 0.5}
    for policy in POLICIES:
        balance = {"policy": policy}
        for load in (0.6, 0.8, 0.9):
            scenario = _steady(cost, effort, load=load, balance=balance)
            yield Case(f"balance, load {load:g}", policy, scenario)
        scenario = _steady(cost, effort, load=0.7, balance=balance, replicas=slow)
        yield Case("balance, load 0.7, one in twenty at half speed", policy, scenario)


def _proxies(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    for proxies in (1, 4, 16, 64):
        balance = {"policy": "least_request", "proxies": proxies}
        yield Case("least request, load 0.8", f"{proxies} proxies", _steady(cost, effort, load=0.8, balance=balance))


def _staleness(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    for policy in ("backlog", "least_backlog"):
        for refresh in (0.01, 0.1, 1.0):
            balance = {"policy": policy, "refresh": refresh}
            setting = f"{policy}, {refresh * 1000:g} ms"
            yield Case("age of backlogs, load 0.8", setting, _steady(cost, effort, load=0.8, balance=balance))


def _deaths(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    """A tenth dies in the middle of 16 seconds, and nothing takes its place before they are over."""
    seconds, load = 16.0, 0.6
    replicas = max(10, round(effort.requests / (load * cost.peak * seconds)))
    few = replace(effort, replicas=replicas, requests=round(load * cost.peak * replicas * seconds))
    for silent, kind in ((False, "killed"), (True, "on lost nodes")):
        for attempts in (1, 4):
            for detection in (1.0, 4.0):
                death = {"at": seconds / 2, "count": replicas // 10, "silent": silent}
                changes = {
                    "replicas": {"deaths": [death], "start_up": {"pull": 0.0}},
                    "retries": {"attempts": attempts},
                    "balance": {"detection": detection},
                }
                scenario = _steady(cost, few, load=load, **changes)
                yield Case(f"one in ten {kind}, load 0.6", f"{attempts} attempts, noticed in {detection:g} s", scenario)


def _retries(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    """Twice what the fleet can do, for the middle third of the time."""
    base = _steady(cost, effort, load=0.7)
    surge = {"at": base.seconds / 3, "seconds": base.seconds / 3, "factor": 2.5}
    traffic = base.traffic.model_dump() | {"surges": [surge]}
    policies: dict[str, dict[str, Any]] = {
        "no retries": {"attempts": 1},
        "retries, no budget": {"overload": True, "budget": None, "pushback": False},
        "retries, no budget, pushback": {"overload": True, "budget": None, "pushback": True},
        "retries, budget 20 %": {"overload": True, "budget": 0.2, "pushback": False, "least": 3},
        "retries, budget 20 %, pushback": {"overload": True, "budget": 0.2, "pushback": True, "least": 3},
    }
    for setting, retries in policies.items():
        scenario = _steady(cost, effort, load=0.7, traffic=traffic, retries=retries)
        yield Case("load 0.7, then 1.75, then 0.7", setting, scenario)


def _scaling(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    """A day from trough to trough, with a surge in it, on each metric at several targets."""
    day = effort.day_seconds
    longest = _patience(cost)[-1]["seconds"]
    targets: Sequence[tuple[str, Sequence[float]]] = (
        ("backlog", [round(share * longest, 3) for share in (0.02, 0.05, 0.1, 0.2, 0.4)]),
        ("cpu", (0.5, 0.6, 0.7, 0.8, 0.9)),
        ("in_flight", (1, 2, 4, 8, 16)),
    )
    for metric, values in targets:
        for target in values:
            yield Case(f"scaling on {metric}", f"target {target:g}", _day(cost, day, metric=metric, target=target))
    for window in (0.0, 60.0, 300.0):
        down = {"window": window, "rules": [{"kind": "Percent", "value": 100}]}
        scenario = _day(cost, day, metric="backlog", target=round(0.1 * longest, 3), down=down)
        yield Case("scaling on backlog, window down", f"{window:g} s", scenario)
    for average in (0.0, 30.0, 60.0, 120.0):
        scenario = _day(cost, day, metric="backlog", target=round(0.1 * longest, 3), average=average)
        yield Case("scaling on backlog, averaged over", f"{average:g} s", scenario)
    for pull in (0.0, 30.0, 120.0):
        scenario = _day(cost, day, metric="backlog", target=round(0.1 * longest, 3), pull=pull)
        yield Case("scaling on backlog, image pull", f"{pull:g} s", scenario)


def _day(cost: ModelCost, day: float, *, metric: str, target: float, pull: float = 10.0, **changes: Any) -> Scenario:  # noqa: ANN401  settings
    count = 8
    surge = {"at": day * 0.7, "seconds": day / 20, "factor": 2.0}
    return Scenario.model_validate(
        {
            "seconds": day,
            "cost": cost.model_dump(),
            "traffic": {
                "rate": 0.7 * cost.peak * count,
                "swing": 0.7,
                "day": day,
                "surges": [surge],
                "patience": _patience(cost),
            },
            "replicas": {"count": count, "start_up": {"pull": pull}},
            "autoscaling": {"metric": metric, "target": target, "least": 2, "most": 64} | changes,
        }
    )


def _fleet(cost: ModelCost, effort: Effort) -> Iterator[Case]:
    """How large a fleet may be, at one load."""
    for replicas in (1, 10, 100, 1000):
        if replicas <= effort.most:
            sized = Effort(
                replicas=replicas,
                requests=max(20_000, min(effort.requests * 7, 500 * replicas)),
                day_seconds=effort.day_seconds,
                most=replicas,
            )
            yield Case("replicas, least request, load 0.8", f"{replicas}", _steady(cost, sized, load=0.8))
