"""Too many connections, and messages that are too large: who is served goes on being served, and it passes."""

import hashlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
import trustme
from tritonclient.grpc import service_pb2

from serving.probes import CONNECTIONS
from tests.loadtests.http2_peer import PREFACE, SETTINGS, frame
from tests.socket.chaos import cpu_seconds, status_bytes, wrapped
from tests.socket.conftest import read_metric
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import until
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 2
SECONDS = 60
MIB = 2**20
FRAME_HEADER = 9
INFER = "/inference.GRPCInferenceService/ModelInfer"
FULL = "new connections wait: Too many open files"
"""What the log says, ten times a minute at most."""
IDLE = 1000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm")
    return root


@pytest.fixture
def server(models: Path) -> Iterator[LocalServer]:
    with LocalServer(models, "--model-control", "explicit", "--load-model", "lstm") as running:
        yield running
    assert running.process.returncode == 0


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), SECONDS)


def greet(connection: socket.socket) -> bool:
    """Say what an HTTP/2 client says first, and return whether the server took it in, or closed the connection."""
    try:
        connection.sendall(PREFACE + frame(SETTINGS))
        return len(connection.recv(FRAME_HEADER)) > 0
    except ConnectionError:
        return False


def expected_of(server: LocalServer) -> dict:
    with triton.InferenceServerClient(server.address) as client:
        return expectations(client, "lstm", X, "1")


def metrics_address(server: LocalServer) -> str:
    return server.metrics_url.removeprefix("http://").removesuffix("/metrics")


def test_a_server_without_free_descriptors_serves_those_who_are_connected_and_does_not_spin(
    server: LocalServer,
) -> None:
    """The limit falls to what is open; connections to both ports then wait in the kernel until it is raised."""
    expected = expected_of(server)
    process = server.process.pid
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    with ExitStack() as waiting:
        with Storm(server.address, "lstm", expected, X, CALLERS) as storm:
            storm.until_more(20)
            used = max(int(entry.name) for entry in Path(f"/proc/{process}/fd").iterdir()) + 1
            while len(list(Path(f"/proc/{process}/fd").iterdir())) < used:  # numbers between that are free
                waiting.enter_context(connect(server.address))
            resource.prlimit(process, resource.RLIMIT_NOFILE, (used, before[1]))
            for address in (server.address, metrics_address(server)) * 10:  # more than the callers will leave room for
                waiting.enter_context(connect(address))
            server.wait_for(FULL)
            storm.until_more(200)
        used_before = cpu_seconds(process)
        work_for(1.0)
        used_meanwhile = cpu_seconds(process) - used_before
        told = sum(FULL in line for line in server.log)
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)

    assert read_metric(server, "lstm_requests_total", outcome="ok") > 200
    with triton.InferenceServerClient(server.address) as client:
        until(client.is_server_live)
    assert (storm.failed, storm.wrong) == ({}, {})
    assert used_meanwhile < 0.5, "a thread that spins gets as much as this one"
    assert 1 <= told <= 10


def test_without_free_descriptors_no_model_is_taken_for_deleted(models: Path) -> None:
    with LocalServer(models, "--model-control", "poll", "--poll-seconds", "0.1") as server:
        process = server.process.pid
        before = resource.prlimit(process, resource.RLIMIT_NOFILE)
        with triton.InferenceServerClient(server.address) as client:
            expected = expectations(client, "lstm", X, "1")["1"]
            resource.prlimit(process, resource.RLIMIT_NOFILE, (3, before[1]))
            server.wait_for("Too many open files.*what serves goes on serving")
            assert expectations(client, "lstm", X, "1")["1"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
            resource.prlimit(process, resource.RLIMIT_NOFILE, before)
            until(lambda: read_metric(server, "lstm_ready") == 1)
            assert expectations(client, "lstm", X, "1")["1"] == pytest.approx(expected, rel=1e-5, abs=1e-6)

    assert server.process.returncode == 0
    assert not any("unloaded" in line for line in server.log)


def work_for(seconds: float) -> None:
    """Use up so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_low_limit_of_descriptors_leaves_room_for_probes_and_models(models: Path, tmp_path: Path) -> None:
    """With 128 allowed, 64 connections are taken, or 32 that take two files each; the next ones are closed at once."""
    program = wrapped(tmp_path, "ulimit -n 128")
    flags = ("--model-control", "explicit", "--load-model", "lstm")
    with LocalServer(models, *flags, program=program) as server:
        waited = server.wait_for(
            r"128 open files are allowed, and --max-connections 1000 takes (?:1256: (64)|2256: (32)) connections"
        )
        most = int(waited[1] or waited[2])
        with ExitStack() as stack:
            admin = stack.enter_context(triton.InferenceServerClient(server.address))
            assert admin.is_server_live()
            taken = [greet(stack.enter_context(connect(server.address))) for _ in range(80)]
            assert taken == [True] * (most - 1) + [False] * (81 - most)
            admin.load_model("lstm")
            assert read_metric(server, "lstm_model_loads_total", outcome="loaded") == 2

        until(lambda: greet_once(server.address))

    assert server.process.returncode == 0
    assert not any(FULL in line for line in server.log)


def greet_once(address: str) -> bool:
    with connect(address) as connection:
        return greet(connection)


def test_a_thousand_idle_connections_change_nothing_for_one_that_works(models: Path, tmp_path: Path) -> None:
    """The server raises its own limit of open files from 256; so does this process."""
    needed = IDLE + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files: ulimit -Hn allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        program = wrapped(tmp_path, "ulimit -S -n 256")
        with LocalServer(models, "--max-connections", str(IDLE + 10), program=program) as server:
            expected = expected_of(server)
            with Storm(server.address, "lstm", expected, X, CALLERS) as storm, ExitStack() as stack:
                storm.until_more(50)
                idle = [stack.enter_context(connect(server.address)) for _ in range(IDLE)]
                assert all(greet(connection) for connection in idle)
                storm.until_more(200)
                stack.close()
                storm.until_more(50)
            assert (storm.failed, storm.wrong) == ({}, {})
            assert expected_of(server).keys() == {"1"}
        assert server.process.returncode == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_to_the_probes_keep_no_probe_out(server: LocalServer) -> None:
    """Also when they say nothing, and when they end with a reset; the log has nothing to say of them."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    before = len(list(tasks.iterdir()))
    with ExitStack() as stack:
        for _ in range(2 * CONNECTIONS):
            stack.enter_context(connect(metrics_address(server)))
        for _ in range(20):  # that takes the threads of the oldest longer than to end, and much less than they may idle
            assert read_metric(server, "lstm_ready") == 1
        assert len(list(tasks.iterdir())) <= before + CONNECTIONS
        for _ in range(10):
            rude = connect(metrics_address(server))
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            rude.close()
        assert read_metric(server, "lstm_ready") == 1
    assert not any("Traceback" in line or "probe" in line for line in server.log)


def test_garbage_of_any_size_is_refused_and_costs_no_lasting_memory(server: LocalServer) -> None:
    """Just below the limit of 64 MiB, at it, above it, and what inflates to sixteen times of it."""
    limit = 64 * MIB
    process = server.process.pid
    cases = [
        (limit - 1, grpc.Compression.NoCompression, grpc.StatusCode.INVALID_ARGUMENT),
        (limit, grpc.Compression.NoCompression, grpc.StatusCode.INVALID_ARGUMENT),
        (limit + 1, grpc.Compression.NoCompression, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (4 * limit, grpc.Compression.Gzip, grpc.StatusCode.INVALID_ARGUMENT),
    ]
    expected = expected_of(server)
    before = status_bytes(process, "VmRSS")
    with (
        Storm(server.address, "lstm", expected, X, CALLERS) as storm,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        call = channel.unary_unary(INFER)
        codes = [call.future(bytes(size), timeout=SECONDS, compression=way).code() for size, way, _ in cases]
        good = service_pb2.ModelInferRequest(model_name="lstm", raw_input_contents=[X.tobytes()])
        good.inputs.add(name="x", datatype="FP32", shape=X.shape)
        assert call(good.SerializeToString(), timeout=SECONDS)
        storm.until_more(50)

    assert codes == [code for *_, code in cases]
    assert (storm.failed, storm.wrong) == ({}, {})
    assert status_bytes(process, "VmHWM") - before < 4.5 * limit
    assert status_bytes(process, "VmRSS") - before < 2.5 * limit


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_messages_of_those_who_may_not_call_are_not_even_read(models: Path, tmp_path: Path, method: str) -> None:
    """GRPC core holds a message of any length before it refuses it; one that nobody asks for stays with its client."""
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"- name: somebody\n  sha256: {hashlib.sha256(b'token').hexdigest()}\n  models: '*'\n")
    with (
        LocalServer(models, "--tokens", str(tokens)) as server,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        before = status_bytes(server.process.pid, "VmHWM")
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        assert call.future(bytes(256 * MIB), timeout=SECONDS).code() is grpc.StatusCode.UNAUTHENTICATED
        assert status_bytes(server.process.pid, "VmHWM") - before < 32 * MIB


def test_handshakes_that_fail_leave_the_log_to_the_server(models: Path, tmp_path: Path) -> None:
    """GRPC core would write a line of its own for each, in no form that a collector knows, at the rate of whoever asks."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(chain))
    flags = ("--tls-certificate", str(chain), "--tls-key", str(key), "--log-format", "json")
    with LocalServer(models, *flags) as server:
        for _ in range(5):
            with connect(server.address) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(ConnectionError):
                    while connection.recv(MIB):  # until it is closed
                        pass

    assert [json.loads(line)["event"] for line in server.log][-3:] == ["ready", "draining", "stopped"]
