"""What the simulator's tests share: costs in round numbers, and a scenario to begin with."""

from typing import Any

from loadtests.simulate.costs import EngineCost, FrontCost, ModelCost
from loadtests.simulate.scenario import Scenario
from serving.policy import Policy

MS = 1_000_000
SECOND = 1_000_000_000
ENGINE = EngineCost.linear(call=2e-4, row=5e-6, step=5e-5, row_step=5e-6)
FRONT = FrontCost(unread=1e-4, message=2e-4, reply=1e-4, error=5e-5, network=2e-4)
FREE_FRONT = FrontCost()


def cost_of(engine: EngineCost = ENGINE, front: FrontCost = FRONT) -> ModelCost:
    return ModelCost(engine=engine, front=front, load=2.0)


def policy_of(**settings: Any) -> Policy:
    return Policy.model_validate(settings)


def settings(**changes: Any) -> dict[str, Any]:
    """Settings of a small scenario, changed at `part__key`."""
    content: dict[str, Any] = {
        "seconds": 2.0,
        "seed": 1,
        "cost": cost_of().model_dump(),
        "traffic": {"rate": 400.0, "patience": [{"seconds": 0.5}]},
        "replicas": {"count": 3, "start_up": {"pull": 0.5}},
    }
    content["cost"]["load"] = 0.2
    for path, value in changes.items():
        *parts, key = path.split("__")
        place = content
        for part in parts:
            place = place.setdefault(part, {})
        place[key] = value
    return content


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(settings(**changes))
