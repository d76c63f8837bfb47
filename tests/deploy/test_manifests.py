"""Each overlay, as Kubernetes would get it: valid, and its parts meet."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.kustomize import (
    DEPLOY,
    OVERLAYS,
    Resource,
    build_overlay,
    build_with,
    containers,
    label,
    of_kind,
    only,
    pod_templates,
)

OLDEST_KUBERNETES = "1.29"
"""That deploy/README.md names; all that is used here is on by default there."""
NEWEST_KUBERNETES = kubernetes_validate.latest_version()
MODELS = ["models-image", "models-claim", "models-object-store"]
OPTIONAL = ["tls", "tokens", "envoy", "monitoring", "keda"]
"""With each way to get models; hpa, which excludes keda, is in the overlay `production`."""
BUILT_IN = {"v1", "apps/v1", "autoscaling/v2", "batch/v1", "networking.k8s.io/v1", "policy/v1"}
"""API groups whose schemas come with Kubernetes; resources of other groups are checked by tests of their own."""
CLUSTER_WIDE = {"Namespace", "PersistentVolume"}
BROUGHT_BY_OPERATORS = {"lstm-models-store", "lstm-serve-tls", "lstm-serve-tokens"}
"""Secrets, which have no place in a repository."""


@pytest.fixture(params=[*OVERLAYS, *(f"base with {name}" for name in MODELS)])
def resources(request: pytest.FixtureRequest, tmp_path: Path) -> list[Resource]:
    """Return the resources of an overlay, or of the base with one way to get models and all that is optional."""
    if request.param in OVERLAYS:
        return build_overlay(request.param)
    return build_with(tmp_path, request.param.removeprefix("base with "), *OPTIONAL)


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_every_resource_is_valid(resources: list[Resource], version: str) -> None:
    for resource in resources:
        if resource["apiVersion"] in BUILT_IN:
            kubernetes_validate.validate(resource, version, strict=True)


def test_the_schemas_refuse_what_is_misspelt() -> None:
    """Otherwise the test above could not fail."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIp": "None"}}

    with pytest.raises(kubernetes_validate.ValidationError, match="clusterIp"):
        kubernetes_validate.validate(service, NEWEST_KUBERNETES, strict=True)


def test_everything_is_in_the_namespace(resources: list[Resource]) -> None:
    for resource in resources:
        namespace = resource["metadata"].get("namespace")
        assert namespace == (None if resource["kind"] in CLUSTER_WIDE else "lstm-serving"), label(resource)


def test_every_image_has_a_version(resources: list[Resource]) -> None:
    for name, template in pod_templates(resources):
        for container in containers(template):
            image, _, digest = container["image"].partition("@")
            _, colon, tag = image.rpartition("/")[2].partition(":")
            assert digest or (colon and tag and tag != "latest"), (name, container["image"])


def test_every_selector_finds_a_pod(resources: list[Resource]) -> None:
    pods = [template["metadata"]["labels"] for _, template in pod_templates(resources)]
    selectors = {
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    }

    for resource in of_kind(resources, *selectors):
        wanted = selectors[resource["kind"]](resource["spec"])
        assert any(wanted.items() <= labels.items() for labels in pods), label(resource)
    for name, template in pod_templates(resources):
        for constraint in template["spec"].get("topologySpreadConstraints", []):
            assert constraint["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), name


def test_what_scales_finds_its_target(resources: list[Resource]) -> None:
    deployments = {resource["metadata"]["name"] for resource in of_kind(resources, "Deployment")}

    for resource in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject"):
        assert resource["spec"]["scaleTargetRef"]["name"] in deployments, label(resource)


def test_every_reference_is_kept(resources: list[Resource]) -> None:
    """A ConfigMap, Secret, claim or account that a pod names is here, or is one that the operator makes."""
    here = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
    here |= {("Secret", name) for name in BROUGHT_BY_OPERATORS} | {("PersistentVolumeClaim", "lstm-models")}

    for name, template in pod_templates(resources):
        missing = set(_references(template["spec"])) - here
        assert not missing, (name, missing)


def _references(spec: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("ServiceAccount", spec["serviceAccountName"])] if "serviceAccountName" in spec else []
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for source in container.get("envFrom", []):
            found += [("ConfigMap", each["name"]) for each in (source.get("configMapRef"),) if each]
            found += [("Secret", each["name"]) for each in (source.get("secretRef"),) if each]
    for volume in spec.get("volumes", []):
        found += [("ConfigMap", each["name"]) for each in (volume.get("configMap"),) if each]
        found += [("Secret", each["secretName"]) for each in (volume.get("secret"),) if each]
        found += [
            ("PersistentVolumeClaim", each["claimName"]) for each in (volume.get("persistentVolumeClaim"),) if each
        ]
    return found


def test_every_mount_has_its_volume(resources: list[Resource]) -> None:
    for name, template in pod_templates(resources):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in containers(template):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name


def test_every_port_of_a_service_is_a_port_of_its_pods(resources: list[Resource]) -> None:
    templates = list(pod_templates(resources))

    for service in of_kind(resources, "Service"):
        pods = [t for _, t in templates if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()]
        for template in pods:
            ports = [port for container in containers(template) for port in container.get("ports", [])]
            known = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
            assert {port.get("targetPort", port["port"]) for port in service["spec"]["ports"]} <= known, label(service)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_changed_setting_is_a_rollout(overlay: str) -> None:
    """Pods name the ConfigMap with the suffix that its content gives."""
    resources = build_overlay(overlay)
    settings = only(resources, "ConfigMap", "lstm-serve")["metadata"]["name"]
    deployment = only(resources, "Deployment", "lstm-serve")

    assert settings != "lstm-serve"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": settings}}]


def test_every_component_is_built_here() -> None:
    """A component that no test builds could be broken for long."""
    assert {folder.name for folder in (DEPLOY / "components").iterdir()} == {*MODELS, *OPTIONAL, "hpa"}
    assert of_kind(build_overlay("production"), "HorizontalPodAutoscaler")
