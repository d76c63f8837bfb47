"""Several replicas: they are restarted one by one, or killed, and callers lose nothing."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import read_metric
from tests.socket.nameserver import NameServer
from tests.socket.replicas import DRAIN_DELAY, REPLICAS, Replicas, envoy, envoy_of
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import until
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 4
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


def test_a_rolling_restart_behind_envoy_loses_no_request(replicas: Replicas, expected: dict, tmp_path: Path) -> None:
    """Envoy leaves out a replica that says that it is not ready, while that still takes what is on its way."""
    with (
        envoy(replicas, tmp_path) as proxy,
        Storm(proxy.address, "lstm", expected, X, CALLERS) as storm,
    ):
        for index in range(REPLICAS):
            storm.until_more(50)
            assert replicas.servers[index].stop() == 0
            replicas.start_and_serve(index)
        storm.until_more(50)

    assert (storm.failed, storm.wrong) == ({}, {})


def test_replicas_come_and_go_by_their_name(tmp_path: Path) -> None:
    """The headless service's name gives the addresses of ready replicas; more of them are found, and fewer cost nothing."""
    write_lstm(tmp_path, "lstm")
    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer(tmp_path, *DRAIN_DELAY, "--host", "127.0.0.2"))]
        port = servers[0].address.rpartition(":")[2]
        names = stack.enter_context(NameServer("127.0.0.2"))
        with triton.InferenceServerClient(servers[0].address) as client:
            expected = expectations(client, "lstm", X, "1")
        proxy = stack.enter_context(envoy_of([f"lstm-serve-headless:{port}"], tmp_path, name_server=names.address))
        with ExitStack() as more, Storm(proxy.address, "lstm", expected, X, CALLERS) as storm:
            storm.until_more(50)

            servers += [
                more.enter_context(LocalServer(tmp_path, "--host", host, "--grpc-port", port))
                for host in ("127.0.0.3", "127.0.0.4")
            ]
            names.addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
            until(lambda: all(read_metric(server, "lstm_requests_total", outcome="ok") > 50 for server in servers))

            names.addresses = ("127.0.0.3", "127.0.0.4")  # Kubernetes takes a pod out as it tells it to stop
            assert servers[0].stop() == 0
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
        envoy(replicas, tmp_path) as proxy,
        Storm(proxy.address, "lstm", expected, X, CALLERS) as storm,
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
