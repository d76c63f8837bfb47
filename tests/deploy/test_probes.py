"""Each probe of the Deployment, asked as the kubelet asks, of a real server: loading, ready and draining."""

import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.deploy.kustomize import Resource, build_overlay, build_with, server_container
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    write_lstm(repository)
    return repository


@pytest.fixture(params=["plain", "tls"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Resource:
    """Return the server's container, whose probes are other ones with TLS."""
    if request.param == "plain":
        return server_container(build_overlay("cpu"))
    return server_container(build_with(tmp_path, "models-image", "tls"))


@pytest.fixture
def server(models: Path) -> Iterator[LocalServer]:
    """Run a server that drains until it is told to stop once more."""
    with LocalServer(models, "--drain-delay-seconds", "600") as running:
        yield running


def passes(probe: Resource, container: Resource, server: LocalServer) -> bool:
    """Ask what the probe asks, with the container's ports taken for the server's."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if "grpc" in probe:
        assert probe["grpc"]["port"] == ports["grpc"]
        with grpc.insecure_channel(server.address) as channel:
            asked = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=probe["timeoutSeconds"] + 10)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    port = probe["httpGet"]["port"]
    assert ports.get(port, port) == ports["metrics"]
    parts = urlsplit(server.metrics_url)
    try:
        url = f"http://{parts.netloc}{probe['httpGet']['path']}"
        with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"] + 10) as answer:
            return bool(200 <= answer.status < 400)
    except urllib.error.HTTPError:
        return False


def test_a_server_that_serves_passes_every_probe(container: Resource, server: LocalServer) -> None:
    for name in PROBES:
        assert passes(container[name], container, server), name
    server.process.send_signal(signal.SIGTERM)  # the second one ends the drain's delay
    server.wait_for("leaving")
    assert server.stop() == 0


def test_a_server_that_drains_is_not_ready_and_alive(container: Resource, server: LocalServer) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("leaving")

    assert not passes(container["readinessProbe"], container, server)
    assert passes(container["livenessProbe"], container, server)
    assert server.stop() == 0


def test_a_server_without_models_is_not_started_and_alive(container: Resource, tmp_path: Path) -> None:
    """The kubelet asks neither of the other two before it has started, and then restarts it once it takes too long."""
    with LocalServer(tmp_path, "--model-control", "poll") as server:
        assert not passes(container["startupProbe"], container, server)
        assert passes(container["livenessProbe"], container, server)
