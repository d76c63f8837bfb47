"""The HorizontalPodAutoscaler that is deployed, as settings of a simulation."""

from math import floor
from pathlib import Path
from typing import Any

import yaml

from loadtests.simulate.scenario import Autoscaling, Behaviour, Rule, Target

DEPLOY = Path(__file__).parents[2] / "deploy"
HPA = DEPLOY / "components" / "hpa" / "horizontal-pod-autoscaler.yaml"
DEPLOYMENT = DEPLOY / "base" / "deployment.yaml"


def deployed(hpa: Path = HPA, deployment: Path = DEPLOYMENT) -> Autoscaling:
    """Read what the manifest scales on, and how.

    A CPU target is there a share of the request, of which the whole cores compute and the rest takes calls; here it is
    a share of the core that computes.

    Raises:
        KeyError: a part is missing.
    """
    spec = yaml.safe_load(hpa.read_text(encoding="utf-8"))["spec"]
    pod = yaml.safe_load(deployment.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    cores = _quantity(pod["containers"][0]["resources"]["requests"]["cpu"])
    return Autoscaling(
        targets=tuple(_target(metric, cores / floor(cores)) for metric in spec["metrics"]),
        least=spec["minReplicas"],
        most=spec["maxReplicas"],
        up=_behaviour(spec["behavior"]["scaleUp"]),
        down=_behaviour(spec["behavior"]["scaleDown"]),
    )


def _target(metric: dict[str, Any], cores_per_core: float) -> Target:
    if metric["type"] == "Resource":
        share = metric["resource"]["target"]["averageUtilization"] / 100
        return Target(metric="cpu", target=round(share * cores_per_core, 3))
    return Target(metric="backlog", target=_quantity(metric["pods"]["target"]["averageValue"]))


def _quantity(text: str) -> float:
    """Return the number of a quantity of Kubernetes, in units or thousandths."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _behaviour(side: dict[str, Any]) -> Behaviour:
    rules = tuple(
        Rule(kind=policy["type"], value=policy["value"], period=policy["periodSeconds"]) for policy in side["policies"]
    )
    return Behaviour(window=side["stabilizationWindowSeconds"], rules=rules, select=side["selectPolicy"])
