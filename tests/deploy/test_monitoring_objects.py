"""The components as Kubernetes would take them: fields that their definitions have, and what kustomize makes of all."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from tests.deploy.monitoring import COMPONENTS, JOB, MONITORING, RULE_FILES, adapter_rule, dashboard, read_yaml

HPA = COMPONENTS / "hpa" / "horizontal-pod-autoscaler.yaml"
KEDA = COMPONENTS / "keda" / "scaled-object.yaml"
DEFINITIONS = {
    MONITORING / "service-monitor.yaml": ServiceMonitor,
    HPA: HorizontalPodAutoscaler,
    KEDA: ScaledObject,
    **dict.fromkeys(RULE_FILES, PrometheusRule),
}
NEWER = {KEDA: {("spec", "fallback", "behavior"): {"static", "currentReplicas", "currentReplicasIfHigher"}}}
"""Fields that came after the definitions that the package has (KEDA 2.16), with values of KEDA 2.17's reference."""
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "lstm-serve"},
    "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "lstm-serve", "image": "lstm-serve"}]}}},
}


def without_newer(path: Path) -> Any:
    read = read_yaml(path)
    for (*parents, field), values in NEWER.get(path, {}).items():
        owner = read
        for parent in parents:
            owner = owner[parent]
        assert owner.pop(field) in values
    return read


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_each_field_is_one_that_its_definition_has(path: Path) -> None:
    """What a definition does not know would be dropped, or refused, by the cluster; here it is missing afterwards."""
    written = without_newer(path)

    understood = DEFINITIONS[path].model_validate(written)

    assert understood.model_dump(mode="json", by_alias=True, exclude_unset=True) == written


def test_the_monitor_finds_the_service_and_names_its_job() -> None:
    monitor = read_yaml(MONITORING / "service-monitor.yaml")["spec"]
    label = monitor["jobLabel"]

    assert monitor["selector"]["matchLabels"] == {label: JOB}


def test_both_autoscalers_want_the_same() -> None:
    hpa, keda = read_yaml(HPA)["spec"], read_yaml(KEDA)["spec"]
    targets = {metric["type"]: next(iter(v for k, v in metric.items() if k != "type")) for metric in hpa["metrics"]}
    triggers = {trigger["type"]: trigger for trigger in keda["triggers"]}

    assert keda["scaleTargetRef"] == hpa["scaleTargetRef"]
    assert hpa["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "lstm-serve"}
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert keda["fallback"]["replicas"] == hpa["minReplicas"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    backlog = targets["Pods"]["target"]
    assert backlog["type"] == triggers["prometheus"]["metricType"] == "AverageValue"
    assert backlog["averageValue"] == f"{float(triggers['prometheus']['metadata']['threshold']) * 1000:.0f}m"
    cpu = targets["Resource"]["target"]
    assert cpu["type"] == triggers["cpu"]["metricType"] == "Utilization"
    assert cpu["averageUtilization"] == int(triggers["cpu"]["metadata"]["value"])


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes() -> None:
    rule = adapter_rule()
    (pods,) = [metric["pods"] for metric in read_yaml(HPA)["spec"]["metrics"] if metric["type"] == "Pods"]

    assert "name" not in rule, "so the metric keeps its own"
    assert pods["metric"]["name"] == rule["seriesQuery"].partition("{")[0]
    assert set(re.findall(r"<<\.(\w+)>>", rule["metricsQuery"])) == {"Series", "LabelMatchers", "GroupBy"}
    assert {label: each["resource"] for label, each in rule["resources"]["overrides"].items()} == {
        "namespace": "namespace",
        "pod": "pod",
    }


def built(folder: Path, *components: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what kustomize makes of a Deployment and the components, by kind and name."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl 1.27 or newer")
    folder = folder.resolve()
    (folder / "deployment.yaml").write_text(json.dumps(DEPLOYMENT))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "lstm-serving",
        "resources": ["deployment.yaml"],
        "components": [os.path.relpath(COMPONENTS / name, folder) for name in components],  # absolute ones are refused
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))  # JSON is YAML
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr.lower(), made.stderr
    resources = yaml.safe_load_all(made.stdout)
    return {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}


def test_monitoring_is_everything_that_its_folder_has(tmp_path: Path) -> None:
    resources = built(tmp_path, "monitoring")

    rules = {("PrometheusRule", f"lstm-serve-{path.stem}") for path in RULE_FILES}
    generated = ("ConfigMap", "lstm-serve-dashboard")
    assert set(resources) == {("Deployment", "lstm-serve"), ("ServiceMonitor", "lstm-serve"), generated, *rules}
    assert resources[generated]["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(resources[generated]["data"]["lstm-serve.json"]) == dashboard()


@pytest.mark.parametrize(("component", "kind"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_an_autoscaler_takes_the_number_of_replicas_over(component: str, kind: str, tmp_path: Path) -> None:
    resources = built(tmp_path, component)

    assert resources[kind, "lstm-serve"]["metadata"]["namespace"] == "lstm-serving"
    assert "replicas" not in resources["Deployment", "lstm-serve"]["spec"]
