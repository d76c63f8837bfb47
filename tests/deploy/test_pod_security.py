"""No pod asks for more than the restricted profile allows; and what it does not allow is found."""

import copy
from typing import Any

import pytest

from tests.deploy.kustomize import OVERLAYS, build_overlay, build_with, containers, pod_templates
from tests.deploy.pod_security import Spec, violations

ADMITTED: Spec = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "server",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 8001}],
            "livenessProbe": {"httpGet": {"path": "/", "port": 1}},
        }
    ],
    "volumes": [{"name": "models", "emptyDir": {}}],
}


def changed(*path: str | int, to: object) -> Spec:
    """Return the admitted spec with one thing put in another's place."""
    spec = copy.deepcopy(ADMITTED)
    place: Any = spec
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return spec


CONTEXT = ("containers", 0, "securityContext")


def test_the_profile_admits_what_it_should() -> None:
    assert violations(ADMITTED) == []
    assert violations(changed(*CONTEXT, "capabilities", to={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})) == []


@pytest.mark.parametrize(
    "spec",
    [
        changed("hostNetwork", to=True),
        changed("hostPID", to=True),
        changed("hostIPC", to=True),
        changed("volumes", 0, to={"name": "models", "hostPath": {"path": "/"}}),
        changed("volumes", 0, to={"name": "models", "nfs": {"server": "a", "path": "/"}}),
        changed("securityContext", "sysctls", to=[{"name": "kernel.msgmax", "value": "1"}]),
        changed("securityContext", "runAsNonRoot", to=False),
        changed("securityContext", "runAsUser", to=0),
        changed("securityContext", "seccompProfile", to={"type": "Unconfined"}),
        changed("securityContext", to={"runAsNonRoot": True}),
        changed("securityContext", to={"seccompProfile": {"type": "RuntimeDefault"}}),
        changed("securityContext", "seLinuxOptions", to={"user": "system_u"}),
        changed("securityContext", "appArmorProfile", to={"type": "Unconfined"}),
        changed("securityContext", "windowsOptions", to={"hostProcess": True}),
        changed(*CONTEXT, "runAsNonRoot", to=False),
        changed(*CONTEXT, "runAsUser", to=0),
        changed(*CONTEXT, "privileged", to=True),
        changed(*CONTEXT, "procMount", to="Unmasked"),
        changed(*CONTEXT, "allowPrivilegeEscalation", to=True),
        changed(*CONTEXT, to={"capabilities": {"drop": ["ALL"]}}),
        changed(*CONTEXT, to={"allowPrivilegeEscalation": False}),
        changed(*CONTEXT, "capabilities", to={"drop": ["NET_RAW"]}),
        changed(*CONTEXT, "capabilities", to={"drop": ["ALL"], "add": ["SYS_NICE"]}),
        changed("initContainers", to=[{"name": "first"}]),
        changed("containers", 0, "ports", 0, "hostPort", to=8001),
        changed("containers", 0, "livenessProbe", "httpGet", "host", to="10.0.0.1"),
        changed("containers", 0, "lifecycle", to={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}),
    ],
)
def test_the_profile_refuses_what_it_should(spec: Spec) -> None:
    assert violations(spec) != []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_admitted(overlay: str) -> None:
    for name, template in pod_templates(build_overlay(overlay)):
        assert violations(template["spec"]) == [], name


@pytest.mark.parametrize("models", ["models-image", "models-claim", "models-object-store"])
def test_every_pod_is_admitted_with_tls_and_tokens(models: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    resources = build_with(tmp_path_factory.mktemp(models), models, "tls", "tokens")

    for name, template in pod_templates(resources):
        assert violations(template["spec"]) == [], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_container_can_write_its_root_file_system_and_no_pod_has_a_token(overlay: str) -> None:
    resources = build_overlay(overlay)

    for name, template in pod_templates(resources):
        assert template["spec"]["automountServiceAccountToken"] is False, name
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, (name, container["name"])
