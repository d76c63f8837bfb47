"""The deployed autoscaler is read as Kubernetes would."""

from pathlib import Path

import pytest
import yaml

from loadtests.simulate.manifest import DEPLOYMENT, HPA, deployed
from loadtests.simulate.scenario import Behaviour, Rule, Target

BEHAVIOUR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 5,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 60,
        "selectPolicy": "Min",
        "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": 30},
            {"type": "Percent", "value": 10, "periodSeconds": 60},
        ],
    },
}


@pytest.mark.parametrize(("quantity", "seconds"), [("250m", 0.25), ("2", 2.0)])
def test_metrics_bounds_and_behaviour_are_those_of_the_manifest(quantity: str, seconds: float, tmp_path: Path) -> None:
    backlog = {"metric": {"name": "lstm_backlog_seconds"}, "target": {"type": "AverageValue", "averageValue": quantity}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    metrics = [{"type": "Pods", "pods": backlog}, {"type": "Resource", "resource": cpu}]
    spec = {"minReplicas": 2, "maxReplicas": 7, "metrics": metrics, "behavior": BEHAVIOUR}
    container = {"resources": {"requests": {"cpu": "1500m"}}}
    (tmp_path / "hpa.yaml").write_text(yaml.safe_dump({"spec": spec}))
    deployment = {"spec": {"template": {"spec": {"containers": [container]}}}}
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))

    read = deployed(tmp_path / "hpa.yaml", tmp_path / "deployment.yaml")

    assert read.targets == (Target(metric="backlog", target=seconds), Target(metric="cpu", target=0.75))
    assert (read.least, read.most) == (2, 7)
    assert read.up == Behaviour(window=5, rules=(Rule(kind="Percent", value=100, period=15),))
    fewer = (Rule(kind="Pods", value=2, period=30), Rule(kind="Percent", value=10, period=60))
    assert read.down == Behaviour(window=60, rules=fewer, select="Min")


def test_the_deployed_one_can_be_simulated() -> None:
    assert {each.metric for each in deployed(HPA, DEPLOYMENT).targets} == {"backlog", "cpu"}
