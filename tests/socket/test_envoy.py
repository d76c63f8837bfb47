"""What becomes of calls on their way through the deployed Envoy, with three replicas behind it."""

import http.client
import json
import queue
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtests.envoy import DEPLOYED, LocalEnvoy
from tests.socket.conftest import read_metric, sequence
from tests.socket.replicas import REPLICAS, Replicas, envoy
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import until
from tests.support.artefacts import write_lookup, write_lstm
from training.local_server import LocalServer

SECONDS = 120
LONG = sequence(np.random.default_rng(3), 1, 100_000)
SHORT = LONG[:, :2].copy()
FAULTS = 10 * REPLICAS
"""Enough that one replica has more in a row than Envoy lets pass by default (5), however they are spread."""
Stub = service_pb2_grpc.GRPCInferenceServiceStub


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm")
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    for name, more in (("roomy", ""), ("tight", "max_request_rows: 1\nmax_queue_rows: 2\n")):
        write_lstm(root, name, hidden=128)  # slow enough to be caught at work
        (root / name / "model.yaml").write_text(f"max_batch_rows: 1\nmax_steps: 100000\n{more}")
    write_lookup(root)
    with Replicas(root) as made:
        yield made


@pytest.fixture
def proxy(replicas: Replicas, tmp_path: Path) -> Iterator[LocalEnvoy]:
    with envoy(replicas, tmp_path) as running:
        yield running


@pytest.fixture
def stub(proxy: LocalEnvoy) -> Iterator[Stub]:
    with grpc.insecure_channel(proxy.address) as channel:
        yield Stub(channel)


def infer_request(model: str, x: np.ndarray = SHORT, **parameters: int) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.outputs.add(name="last")
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


def lookup_request(token: int) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(
        model_name="lookup", raw_input_contents=[np.array([[token]], np.int64).tobytes()]
    )
    request.inputs.add(name="tokens", datatype="INT64", shape=[1, 1])
    return request


def test_calls_of_one_connection_are_spread_evenly(replicas: Replicas, stub: Stub) -> None:
    """Of two replicas drawn for a call, the one with fewer under way takes it, and they stay equally full.

    All 600 wait behind long ones, so that it does not matter how fast which replica is. 200 each differ by more than a
    tenth, 20, in none of a million runs of a simulation; calls that went anywhere would in 56 of 100.
    """
    calls = 600
    with busy(replicas, "roomy"):
        before = replicas.counts()
        waiting = [stub.ModelInfer.future(infer_request("roomy"), timeout=SECONDS) for _ in range(calls)]

        assert {call.code() for call in waiting} == {grpc.StatusCode.OK}
        until(lambda: sum(replicas.counts()) == sum(before) + calls + 3 * REPLICAS)  # with the long ones
        counts = np.subtract(replicas.counts(), before) - 3
    assert counts.max() - counts.min() <= 0.1 * calls / REPLICAS, counts


def test_streams_go_where_fewest_are(replicas: Replicas, stub: Stub) -> None:
    """An open stream counts as a call under way, also while it rests.

    50 each differ by more than ten in 7 of a million runs of a simulation; streams that went anywhere would in half of them.
    """
    before = replicas.counts()

    with ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(open_stream(stub))

        counts = np.subtract(replicas.counts(), before)
    assert counts.sum() == 150
    assert counts.max() - counts.min() <= 10, counts


@contextmanager
def open_stream(stub: Stub) -> Iterator[None]:
    """Open a stream that has answered once, so that it has a replica, and end it in order."""
    requests: queue.SimpleQueue[service_pb2.ModelInferRequest | None] = queue.SimpleQueue()
    requests.put(infer_request("causal"))
    answers = stub.ModelStreamInfer(iter(requests.get, None), timeout=SECONDS)
    assert not next(answers).error_message
    yield
    requests.put(None)
    assert list(answers) == []


def reads(server: LocalServer, metric: str, model: str, value: int) -> bool:
    return read_metric(server, metric, model=model) == value


@contextmanager
def busy(replicas: Replicas, model: str) -> Iterator[None]:
    """Let each replica work on a long request inside, which nothing interrupts, and have two others wait."""
    with ExitStack() as stack:
        sent = []
        for server in replicas.servers:
            infer = Stub(stack.enter_context(grpc.insecure_channel(server.address))).ModelInfer
            for metric, rows in (("lstm_running_rows", 1), ("lstm_queue_rows", 1), ("lstm_queue_rows", 2)):
                sent.append(infer.future(infer_request(model, LONG), timeout=SECONDS))
                until(partial(reads, server, metric, model, rows))
        yield
        assert [call.code() for call in sent] == [grpc.StatusCode.OK] * len(sent)


def test_a_refusal_comes_back_with_its_pushback_and_is_not_sent_again(
    replicas: Replicas, proxy: LocalEnvoy, stub: Stub
) -> None:
    with busy(replicas, "tight"):
        before = sum(replicas.counts("queue_full"))
        refusals = [stub.ModelInfer.future(infer_request("tight"), timeout=SECONDS) for _ in range(FAULTS)]

        assert {call.code() for call in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call in refusals:
            metadata = dict(call.trailing_metadata())
            assert metadata["reason"] == "queue_full"
            assert int(metadata["grpc-retry-pushback-ms"]) > 0
        assert sum(replicas.counts("queue_full")) == before + FAULTS
    assert proxy.statistic("outlier_detection.ejections_enforced_total") == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (infer_request("lstm", timeout=1), grpc.StatusCode.DEADLINE_EXCEEDED),
        (infer_request("nobody"), grpc.StatusCode.NOT_FOUND),
        (infer_request("lstm", SHORT[0]), grpc.StatusCode.INVALID_ARGUMENT),
        (lookup_request(99), grpc.StatusCode.INTERNAL),
        (None, grpc.StatusCode.UNIMPLEMENTED),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_no_client_can_have_replicas_ejected_by_what_it_asks(
    proxy: LocalEnvoy, fault: service_pb2.ModelInferRequest | None, code: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(proxy.address) as channel:
        infer, nothing = Stub(channel).ModelInfer, channel.unary_unary("/inference.GRPCInferenceService/Nothing")
        for _ in range(FAULTS):
            call = nothing.future(b"") if fault is None else infer.future(fault, timeout=SECONDS)
            assert call.code() is code

    assert proxy.statistic("outlier_detection.ejections_enforced_total") == 0
    assert proxy.healthy() == REPLICAS


def test_a_message_that_is_too_large_never_reaches_a_replica(replicas: Replicas, stub: Stub) -> None:
    limit = int(re.search(r"max_request_bytes: (\d+)", (DEPLOYED / "envoy.yaml").read_text())[1])
    before = sum(replicas.counts("invalid"))

    refused = stub.ModelInfer.future(infer_request("lstm", np.zeros((1, limit // 12 + 1, 3), np.float32)))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sum(replicas.counts("invalid")) == before

    taken = stub.ModelInfer.future(infer_request("lstm", np.zeros((1, limit // 12 - 100, 3), np.float32)))
    assert taken.code() is grpc.StatusCode.INVALID_ARGUMENT, "it has more steps than the model takes"
    assert sum(replicas.counts("invalid")) == before + 1


def test_the_id_of_a_request_is_the_clients(stub: Stub) -> None:
    mine = "01890a5d-ac96-774b-bcce-b302099a8057"
    call = stub.ModelInfer.future(infer_request("lstm"), timeout=SECONDS, metadata=[("x-request-id", mine)])

    assert call.code() is grpc.StatusCode.OK
    assert ("x-request-id", mine) in call.trailing_metadata()


def test_an_envoy_that_is_replaced_cuts_no_call(replicas: Replicas, tmp_path: Path) -> None:
    """As Kubernetes does it: drain.sh, then SIGTERM; clients have another Envoy to go to."""
    with envoy(replicas, tmp_path) as first, envoy(replicas, tmp_path) as second:
        with triton.InferenceServerClient(second.address) as client:
            expected = expectations(client, "lstm", example(), "1")
        both = f"ipv4:{first.address},{second.address}"
        options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
        with Storm(both, "lstm", expected, example(), callers=4, options=options) as storm:
            storm.until_more(100)
            subprocess.run(["bash", DEPLOYED / "drain.sh", str(first.admin_port)], check=True, timeout=60)
            assert first.stop() == 0
            storm.until_more(100)

    assert (storm.failed, storm.wrong) == ({}, {})


def ask(proxy: LocalEnvoy, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask the listener of probes and statistics; returns the status and the body."""
    with closing(http.client.HTTPConnection(proxy.probes, timeout=10)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_probes_and_statistics_are_all_that_is_seen_of_the_admin_port(proxy: LocalEnvoy) -> None:
    assert ask(proxy, "/ready") == (200, "LIVE\n")
    for path, method in (("/", "GET"), ("/config_dump", "GET"), ("/ready/../stats", "GET"), ("/ready", "POST")):
        assert ask(proxy, path, method)[0] == 404, (path, method)
    assert ask(proxy, "/quitquitquitquit", "POST")[0] == 404
    assert proxy.process.poll() is None


def test_what_the_monitor_asks_for_is_there(proxy: LocalEnvoy) -> None:
    """Prometheus gets what was counted, in a form that its parser takes, and is spared the rest."""
    monitor = yaml.safe_load((DEPLOYED.parent / "monitoring" / "service-monitor-envoy.yaml").read_text())
    (endpoint,) = monitor["spec"]["endpoints"]
    asked = f"{endpoint['path']}?{urllib.parse.urlencode(endpoint['params'], doseq=True)}"
    status, page = ask(proxy, asked)
    names = {family.name for family in text_string_to_metric_families(page)}

    assert status == 200
    assert {"envoy_cluster_upstream_rq", "envoy_cluster_membership_healthy"} <= {
        name.removesuffix("_total") for name in names
    }
    assert len(page) < len(ask(proxy, endpoint["path"])[1])
