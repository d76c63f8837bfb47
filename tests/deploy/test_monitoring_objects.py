"""The components as Kubernetes would take them: fields that their definitions have, and what kustomize makes of all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from tests.deploy.kustomize import build_with, of_kind, only
from tests.deploy.monitoring import (
    COMPONENTS,
    JOB,
    MONITORING,
    RULE_FILES,
    adapter_rule,
    alerts,
    dashboard,
    read_yaml,
)

HPA = COMPONENTS / "hpa" / "horizontal-pod-autoscaler.yaml"
KEDA = COMPONENTS / "keda" / "scaled-object.yaml"
DEFINITIONS = {
    **dict.fromkeys(MONITORING.glob("service-monitor*.yaml"), ServiceMonitor),
    HPA: HorizontalPodAutoscaler,
    KEDA: ScaledObject,
    **dict.fromkeys(RULE_FILES, PrometheusRule),
}
NEWER = {KEDA: {("spec", "fallback", "behavior"): {"static", "currentReplicas", "currentReplicasIfHigher"}}}
"""Fields that came after the definitions that the package has (KEDA 2.16), with values of KEDA 2.17's reference."""


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


def test_monitors_find_their_service_and_name_its_job() -> None:
    for name, job in (("service-monitor.yaml", JOB), ("service-monitor-envoy.yaml", "lstm-envoy")):
        monitor = read_yaml(MONITORING / name)["spec"]
        assert monitor["selector"]["matchLabels"] == {monitor["jobLabel"]: job}


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


def test_monitoring_is_everything_that_its_folder_has(tmp_path: Path) -> None:
    resources = build_with(tmp_path, "models-image", "monitoring")

    rules = {f"lstm-serve-{path.stem}" for path in RULE_FILES}
    assert {each["metadata"]["name"] for each in of_kind(resources, "PrometheusRule")} == rules
    assert {each["metadata"]["name"] for each in of_kind(resources, "ServiceMonitor")} == {"lstm-serve", "lstm-envoy"}
    generated = only(resources, "ConfigMap", "lstm-serve-dashboard")
    assert generated["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(generated["data"]["lstm-serve.json"]) == dashboard()


@pytest.mark.parametrize(("component", "kind"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_an_autoscaler_takes_the_number_of_replicas_over(component: str, kind: str, tmp_path: Path) -> None:
    resources = build_with(tmp_path, "models-image", component)

    assert only(resources, kind, "lstm-serve")["metadata"]["namespace"] == "lstm-serving"
    assert "replicas" not in only(resources, "Deployment", "lstm-serve")["spec"]


def test_alert_and_dashboard_follow_the_autoscalers_targets() -> None:
    pods, cpu = read_yaml(HPA)["spec"]["metrics"]
    target = float(pods["pods"]["target"]["averageValue"].removesuffix("m")) / 1000
    share = cpu["resource"]["target"]["averageUtilization"] / 100
    (stays,) = [rule["expr"] for rule in alerts() if rule["alert"] == "LstmBacklogStays"]
    panels = {panel["title"]: panel for panel in dashboard()["panels"]}

    assert float(stays.rpartition(">")[2]) == pytest.approx(2 * target)
    for title, value in (("Backlog of each replica", target), ("CPU of the budget", share)):
        steps = panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert value in [step["value"] for step in steps]
