"""The questions that the report answers, as scenarios."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from loadtests.simulate.costs import Measured, ModelCost
from loadtests.simulate.manifest import deployed
from loadtests.simulate.replica import capacity
from loadtests.simulate.scenario import DOWN, UP, BalancePolicy, Behaviour, Lengths, Rule, Scenario
from loadtests.simulate.traffic import draw_lengths
from serving.policy import Policy

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
        short_deadlines: whether a day of many short requests is simulated too, which takes minutes.
    """

    replicas: int
    requests: int
    day_seconds: float
    most: int
    short_deadlines: bool


QUICK = Effort(replicas=30, requests=15_000, day_seconds=900.0, most=100, short_deadlines=False)
FULL = Effort(replicas=100, requests=60_000, day_seconds=3600.0, most=1000, short_deadlines=True)
LONG = Lengths(median=240.0, shortest=40, longest=1600)
"""Of what is scaled for: few requests of much work each, so that a day is simulated in seconds."""
OBJECTIVE = 0.25
"""Seconds that the deployed autoscaler's target is meant for (the latency objective of the deployed alerts)."""
LARGEST = 1_000_000
"""Requests of the largest fleet."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model, and how it is batched.

    Attributes:
        cost: of it.
        stepwise: whether it runs in chunks, or each sequence in one call.
        lengths: of what it is asked.
        capacity: requests per second that one replica can do at best.
    """

    cost: ModelCost
    stepwise: bool
    lengths: Lengths
    capacity: float

    @property
    def patience(self) -> list[dict[str, float]]:
        """Deadlines in proportion to what the model takes: half of the requests have little time, half have much."""
        call = self.cost.engine.seconds(32, round(self.lengths.median))
        return [{"seconds": round(5 * call, 3), "share": 0.5}, {"seconds": round(25 * call, 3), "share": 0.5}]


def cases(measured: Measured, effort: Effort) -> list[Case]:
    """Return all runs of all questions."""
    fronts = _model(measured.models[FRONTS], Lengths(), stepwise=True)
    computes = _model(measured.models[COMPUTES], LONG, stepwise=False)
    return [
        *_balance(fronts, effort),
        *_proxies(fronts, effort),
        *_staleness(fronts, effort),
        *_deaths(fronts, effort),
        *_retries(fronts, effort),
        *_scaling(computes, effort),
        *_deployed(fronts, computes, effort),
        *_fleet(fronts, effort),
    ]


def _model(cost: ModelCost, lengths: Lengths, *, stepwise: bool) -> Model:
    drawn = draw_lengths(lengths, 1000, np.random.default_rng(0)).tolist()
    return Model(cost, stepwise, lengths, capacity(cost, Policy.model_validate({}), drawn, stepwise=stepwise))


def _steady(model: Model, effort: Effort, *, load: float, **changes: dict[str, Any]) -> Scenario:
    """Return a fleet under constant load, of which the last three quarters count.

    Args:
        model: that it serves.
        effort: its size.
        load: over what its replicas can do at best.
        changes: of the scenario's parts.
    """
    rate = load * model.capacity * effort.replicas
    seconds = effort.requests / rate
    content: dict[str, Any] = {
        "seconds": seconds,
        "warm_up": seconds / 4,
        "cost": model.cost.model_dump(),
        "traffic": {"rate": rate, "patience": model.patience, "lengths": model.lengths.model_dump()},
        "replicas": {"count": effort.replicas, "stepwise": model.stepwise},
    }
    for part, settings in changes.items():
        content[part] = content.get(part, {}) | settings
    return Scenario.model_validate(content)


def _balance(model: Model, effort: Effort) -> Iterator[Case]:
    slow = {"slow": max(1, effort.replicas // 20), "slow_speed": 0.5}
    for load in (0.7, 0.9):
        for policy in POLICIES:
            scenario = _steady(model, effort, load=load, balance={"policy": policy})
            yield Case(f"balance, load {load:g}", policy, scenario)
    for policy in POLICIES:
        scenario = _steady(model, effort, load=0.7, balance={"policy": policy}, replicas=slow)
        yield Case("balance, load 0.7, one in twenty at half speed", policy, scenario)


def _proxies(model: Model, effort: Effort) -> Iterator[Case]:
    for proxies in (1, 4, 16, 64):
        balance = {"policy": "least_request", "proxies": proxies}
        yield Case("least request, load 0.9", f"{proxies} proxies", _steady(model, effort, load=0.9, balance=balance))


def _staleness(model: Model, effort: Effort) -> Iterator[Case]:
    for policy in ("backlog", "least_backlog"):
        for refresh in (0.01, 0.1, 1.0):
            balance = {"policy": policy, "refresh": refresh}
            setting = f"{policy}, {refresh * 1000:g} ms"
            yield Case("age of backlogs, load 0.9", setting, _steady(model, effort, load=0.9, balance=balance))


def _deaths(model: Model, effort: Effort) -> Iterator[Case]:
    """A tenth dies in the middle of eight seconds; those that come back in time do."""
    seconds, load = 8.0, 0.6
    replicas = max(10, round(effort.requests / (load * model.capacity * seconds)))
    few = replace(effort, replicas=replicas, requests=round(load * model.capacity * replicas * seconds))
    slow_start = {"load": min(model.cost.load, seconds / 4)}
    for silent, kind in ((False, "killed"), (True, "on lost nodes")):
        for attempts in (1, 4):
            for detection in (0.5, 2.0):
                death = {"at": seconds / 2, "count": replicas // 10, "silent": silent}
                scenario = _steady(
                    model,
                    few,
                    load=load,
                    cost=slow_start,
                    replicas={"deaths": [death], "start_up": {"pull": 0.0}},
                    retries={"attempts": attempts},
                    balance={"detection": detection},
                )
                yield Case(f"one in ten {kind}, load 0.6", f"{attempts} attempts, noticed in {detection:g} s", scenario)


def _retries(model: Model, effort: Effort) -> Iterator[Case]:
    """Nearly twice what the fleet can do, for the middle third of the time."""
    base = _steady(model, effort, load=0.7)
    surge = {"at": base.seconds / 3, "seconds": base.seconds / 3, "factor": 2.5}
    policies: dict[str, dict[str, Any]] = {
        "no retries": {"attempts": 1},
        "retries, no budget": {"overload": True, "budget": None, "pushback": False},
        "retries, no budget, pushback": {"overload": True, "budget": None, "pushback": True},
        "retries, budget 20 %": {"overload": True, "budget": 0.2, "pushback": False, "least": 3},
        "retries, budget 20 %, pushback": {"overload": True, "budget": 0.2, "pushback": True, "least": 3},
    }
    for setting, retries in policies.items():
        scenario = _steady(model, effort, load=0.7, traffic={"surges": [surge]}, retries=retries)
        yield Case("load 0.7, then 1.75, then 0.7", setting, scenario)


def _scaling(model: Model, effort: Effort) -> Iterator[Case]:
    """A day from trough to trough, with a surge in it, on each metric at several targets."""
    shortest = model.patience[0]["seconds"]
    targets: dict[str, Sequence[float]] = {
        "backlog": [round(share * shortest, 2) for share in (0.1, 0.2, 0.5)],
        "cpu": (0.6, 0.75, 0.9),
        "in_flight": (4, 12, 32),
    }
    for metric, values in targets.items():
        for target in values:
            scenario = _day(model, effort, {"metric": metric, "target": target})
            yield Case(f"scaling on {metric}", f"target {target:g}", scenario)
    middle = {"metric": "backlog", "target": round(0.2 * shortest, 2)}
    for share in (0.65, 0.8, 0.9):
        scenario = _day(model, effort, middle, {"metric": "cpu", "target": share})
        yield Case("scaling on backlog and CPU", f"CPU {share:g}", scenario)
    for words, down in _ways_down().items():
        yield Case("replicas that go, on backlog", words, _day(model, effort, middle, down=down))
    for average in (0.0, 120.0):
        scenario = _day(model, effort, middle | {"average": average})
        yield Case("looks averaged, on backlog", f"over {average:g} s", scenario)
    for pull in (0.0, 120.0):
        yield Case("image pull, on backlog", f"{pull:g} s", _day(model, effort, middle, pull=pull))


def _ways_down() -> dict[str, Behaviour]:
    """Return how fast replicas may go, beside Kubernetes' default: all at once, after a window of 300 s."""
    all_at_once = (Rule(kind="Percent", value=100),)
    return {
        "window 0 s": Behaviour(window=0.0, rules=all_at_once),
        "window 60 s": Behaviour(window=60.0, rules=all_at_once),
        "window 300 s, 10 % in 60 s": Behaviour(window=300.0, rules=(Rule(kind="Percent", value=10, period=60.0),)),
        "window 300 s, 1 in 120 s": Behaviour(window=300.0, rules=(Rule(kind="Pods", value=1, period=120.0),)),
    }


def _deployed(fronts: Model, computes: Model, effort: Effort) -> Iterator[Case]:
    """The autoscaler as it is deployed, with its target in proportion to the deadlines; and with one metric of its two.

    On a model whose deadlines are long, with a surge and with a larger one; and on one whose deadlines are so short
    that overload is refused before a backlog grows.
    """
    manifest = deployed()
    days = [("1024 wide", computes, 6, 2.0), ("1024 wide, surge of 6 times", computes, 6, 6.0)]
    if effort.short_deadlines:
        days.append(("256 wide", fronts, 2, 2.0))
    for name, model, replicas, surge in days:
        shortest = model.patience[0]["seconds"]
        both = [each.model_dump() for each in manifest.targets]
        for target in both:
            if target["metric"] == "backlog":
                target["target"] *= shortest / OBJECTIVE
        for words, targets in (("as deployed", both), *((f"only {each['metric']}", [each]) for each in both)):
            scenario = _day(model, effort, *targets, replicas=replicas, surge=surge, up=manifest.up, down=manifest.down)
            yield Case(f"deployed autoscaler, {name}", words, scenario)


def _day(  # noqa: PLR0913  what is varied
    model: Model,
    effort: Effort,
    *targets: dict[str, Any],
    replicas: int = 6,
    surge: float = 2.0,
    pull: float = 10.0,
    up: Behaviour = UP,
    down: Behaviour = DOWN,
) -> Scenario:
    """Return a day of traffic that needs `replicas` on average at 60 % of what they can do at best."""
    day = effort.day_seconds
    surges = [{"at": day * 0.75, "seconds": day / 20, "factor": surge}]
    return Scenario.model_validate(
        {
            "seconds": day,
            "cost": model.cost.model_dump(),
            "traffic": {
                "rate": 0.6 * model.capacity * replicas,
                "swing": 0.7,
                "day": day,
                "surges": surges,
                "patience": model.patience,
                "lengths": model.lengths.model_dump(),
            },
            "replicas": {"count": replicas, "stepwise": model.stepwise, "start_up": {"pull": pull}},
            "autoscaling": {"targets": targets, "least": 2, "most": 64, "up": up, "down": down},
        }
    )


def _fleet(model: Model, effort: Effort) -> Iterator[Case]:
    """How large a fleet may be, at one load; the largest is sent a million requests."""
    for replicas in (1, 10, 100, 1000):
        if replicas <= effort.most:
            requests = LARGEST if replicas == FULL.most else effort.requests
            sized = replace(effort, replicas=replicas, requests=requests)
            yield Case("replicas, least request, load 0.9", f"{replicas}", _steady(model, sized, load=0.9))
