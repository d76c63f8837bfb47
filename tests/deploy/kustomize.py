"""What `kubectl kustomize` makes of the folders of deploy/, as Python's own types."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.generate_stubs import ROOT

DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(folder.name for folder in (DEPLOY / "overlays").iterdir())
Resource = dict[str, Any]
OLDEST = 5
"""kustomize's major version from which on it merges ConfigMaps of components and knows `labels`."""
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}


@functools.cache
def missing() -> str:
    """Return why nothing can be built here, empty if it can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed (Debian's kubernetes-client is too old: take kubectl 1.27 or newer)"
    told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"Kustomize Version: v(\d+)", told)
    if version is None or int(version[1]) < OLDEST:
        return f"kubectl's kustomize is older than v{OLDEST}: take kubectl 1.27 or newer"
    return ""


def build(folder: Path) -> list[Resource]:
    """Return the resources of a kustomization; skip the test where they cannot be built."""
    if missing():
        pytest.skip(missing())
    return _built(folder)


def build_overlay(name: str) -> list[Resource]:
    """Return the resources of an overlay."""
    return build(DEPLOY / "overlays" / name)


def build_with(folder: Path, *components: str) -> list[Resource]:
    """Return the resources of the base with some components; `folder` is empty, and gets the kustomization."""

    def relative(path: Path) -> str:
        return os.path.relpath(path, folder.resolve())  # an absolute path is refused

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "lstm-serving",
        "resources": [relative(DEPLOY / "base")],
        "components": [relative(DEPLOY / "components" / name) for name in components],
        "images": [{"name": name, "newTag": "test"} for name in ("lstm-serve", "lstm-models")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)


@functools.cache
def _built(folder: Path) -> list[Resource]:
    ended = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "deprecated" not in ended.stderr.lower(), ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def only(resources: list[Resource], kind: str, name: str) -> Resource:
    """Return the one resource of this kind and name (without the suffix that generated ones get)."""
    named = re.compile(re.escape(name) + r"(-[0-9a-z]{10})?")
    found = [r for r in resources if r["kind"] == kind and named.fullmatch(r["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind}/{name}, expected one"
    return found[0]


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    """Return the resources of these kinds."""
    return [resource for resource in resources if resource["kind"] in kinds]


def label(resource: Resource) -> str:
    """Name a resource in a message."""
    return f"{resource['kind']}/{resource['metadata']['name']}"


def pod_templates(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Yield each workload's name and its pod template."""
    for resource in of_kind(resources, *WORKLOADS):
        yield label(resource), resource["spec"]["template"]


def containers(template: Resource) -> list[Resource]:
    """Return the containers of a pod template, init containers first."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def server_container(resources: list[Resource]) -> Resource:
    """Return the container of lstm-serve in its Deployment."""
    (found,) = only(resources, "Deployment", "lstm-serve")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def server_variables(resources: list[Resource]) -> dict[str, str]:
    """Return the variables that the server gets."""
    return dict(only(resources, "ConfigMap", "lstm-serve")["data"])
