"""What the manifests say of the server is what the server does."""

from pathlib import Path

import pytest
import yaml

from serving.config import ServerConfig
from serving.engine.cpu_budget import CpuBudget
from serving.wire.server import LAST_BYTES_SECONDS, LAST_CALLS_SECONDS
from tests.config.house import settings_of
from tests.deploy.kustomize import (
    DEPLOY,
    OVERLAYS,
    Resource,
    build_overlay,
    build_with,
    of_kind,
    only,
    server_container,
    server_variables,
)

MARGIN_SECONDS = 5.0
"""From the last answer to the end of the process: connections are closed and engines let go."""
FRONT_CORES = 0.5
"""For what takes and answers calls, beside the threads that compute."""
PROCESS_MIB = 256
"""Of one with small models, and as much again while they are loaded anew."""
REQUEST_FACTOR = 3.5
"""Bytes of memory for each byte of a request under way, as measured."""
REQUESTS_AT_A_TIME = 8
"""Of the largest size."""
MIB = 2**20
UNITS = {"Mi": 2**20, "Gi": 2**30}


def config_of(resources: list[Resource]) -> ServerConfig:
    """Read the settings as the server of these resources does."""
    return settings_of(**server_variables(resources)).config


def cores_of(quantity: str) -> float:
    """Return the cores of a quantity of Kubernetes."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def bytes_of(quantity: str) -> int:
    """Return the bytes of a quantity of Kubernetes."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_its_settings(overlay: str) -> None:
    """An unknown name, or a value that is none, would end its start."""
    config = config_of(build_overlay(overlay))

    assert config.host == "0.0.0.0"  # noqa: S104  what the test is about
    assert config.tokens is None


def test_the_server_takes_the_settings_of_tls_and_tokens(tmp_path: Path) -> None:
    resources = build_with(tmp_path, "models-image", "tls", "tokens")
    config = config_of(resources)
    mounts = {mount["mountPath"]: mount["name"] for mount in server_container(resources)["volumeMounts"]}

    for path, volume in ((config.tls_certificate, "tls"), (config.tls_key, "tls"), (config.tokens, "tokens")):
        assert path is not None
        assert mounts[str(path.parent)] == volume
    spec = only(resources, "Deployment", "lstm-serve")["spec"]["template"]["spec"]
    secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert len(secrets) == 2
    for secret in secrets:
        assert secret["defaultMode"] == 0o440, "the server's group reads it by fsGroup, and nobody else does"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_models_are_where_the_server_looks_and_cannot_be_written(overlay: str) -> None:
    resources = build_overlay(overlay)

    mounts = {mount["mountPath"]: mount for mount in server_container(resources)["volumeMounts"]}
    assert mounts[str(config_of(resources).model_repository)]["readOnly"] is True


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_are_the_servers(overlay: str) -> None:
    resources = build_overlay(overlay)
    config = config_of(resources)

    ports = {port["name"]: port["containerPort"] for port in server_container(resources)["ports"]}
    assert ports == {"grpc": config.grpc_port, "metrics": config.metrics_port}
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(resources, "Service")}
    for name, expected in (("lstm-serve", {"grpc", "metrics"}), ("lstm-serve-headless", {"grpc"})):
        assert {port["name"] for port in services[name]["ports"]} == expected
        for port in services[name]["ports"]:
            assert port["port"] == ports[port["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_time_to_drain_before_the_kill(overlay: str) -> None:
    resources = build_overlay(overlay)
    config = config_of(resources)

    spec = only(resources, "Deployment", "lstm-serve")["spec"]["template"]["spec"]
    drain = config.drain_delay_seconds + config.drain_timeout_seconds + LAST_CALLS_SECONDS + LAST_BYTES_SECONDS
    assert spec["terminationGracePeriodSeconds"] >= drain + MARGIN_SECONDS
    assert "lifecycle" not in server_container(resources), "the drain delay is the server's own"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_cores_are_reserved_and_some_are_left_beside_the_threads_that_compute(overlay: str) -> None:
    resources = server_container(build_overlay(overlay))["resources"]
    cores = cores_of(resources["limits"]["cpu"])

    for name in ("cpu", "memory"):
        assert resources["requests"][name] == resources["limits"][name], name
    assert cores - CpuBudget(affinity=256, quota=cores).threads >= FRONT_CORES


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_has_room_for_what_the_settings_allow(overlay: str) -> None:
    """The floor that deploy/README.md computes: the process, unread answers, and requests under way."""
    resources = build_overlay(overlay)
    config = config_of(resources)

    requests_mib = REQUESTS_AT_A_TIME * REQUEST_FACTOR * config.max_message_mib
    floor_mib = PROCESS_MIB + config.max_unread_mib + requests_mib
    assert bytes_of(server_container(resources)["resources"]["limits"]["memory"]) >= floor_mib * MIB


def test_a_rollout_takes_no_replica_before_its_successor_is_ready() -> None:
    for overlay in OVERLAYS:
        strategy = only(build_overlay(overlay), "Deployment", "lstm-serve")["spec"]["strategy"]
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_only_the_proxy_and_who_bears_the_label_may_call_and_only_monitoring_may_scrape() -> None:
    policy = only(build_overlay("cpu"), "NetworkPolicy", "lstm-serve")["spec"]

    calls, scrapes = policy["ingress"]
    assert [port["port"] for port in calls["ports"]] == ["grpc"]
    assert [port["port"] for port in scrapes["ports"]] == ["metrics"]
    assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "lstm-envoy"}}} in calls["from"]
    assert all("podSelector" in peer for peer in calls["from"]), "a peer without one is everybody in those namespaces"
    assert scrapes["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert policy["egress"] == []
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}


def test_the_local_cluster_has_the_folder_of_the_volume() -> None:
    (node,) = yaml.safe_load((DEPLOY / "overlays" / "local" / "kind.yaml").read_text())["nodes"]
    (mount,) = node["extraMounts"]
    volume = only(build_overlay("local"), "PersistentVolume", "lstm-models")

    assert mount["containerPath"] == volume["spec"]["hostPath"]["path"]
    assert mount["hostPath"] == "demo-output/models"
