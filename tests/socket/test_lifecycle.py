"""Start and stop: what the server says, how it drains, and with which code it ends."""

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.engine.priority import NICENESS
from tests.socket.conftest import read_metric, sequence, tensor
from tests.socket.test_overload import LONG, SHORT, infer_request, until
from tests.support.artefacts import write_lstm
from training.local_server import LSTM_SERVE, LocalServer


def test_the_start_prints_the_cpu_budget_and_what_was_loaded(server: LocalServer) -> None:
    log = "".join(server.log)

    assert "CPU budget: " in log
    assert "spinning off" in log
    assert "loaded lstm version 2: fp32 on cpu" in log


def test_a_tampered_model_is_refused_by_name_and_the_others_are_served(
    server: LocalServer, client: triton.InferenceServerClient
) -> None:
    (line,) = [line for line in server.log if "refused tampered version 1" in line]

    assert "sha256" in line
    assert client.infer("lstm", [tensor("x", sequence(np.random.default_rng(1), 1, 2))])


def test_sigterm_lets_calls_in_flight_finish_and_ends_with_code_0(repository: Path) -> None:
    """Every accepted request is answered; those that come later are told UNAVAILABLE."""
    with LocalServer(repository) as server, grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(infer_request(LONG), timeout=120)]
        until(lambda: read_metric(server, "lstm_running_rows", model="tight") == 1)
        calls += [stub.ModelInfer.future(infer_request(LONG), timeout=120) for _ in range(2)]
        until(lambda: read_metric(server, "lstm_queue_rows", model="tight") == 2)

        server.process.terminate()
        until(lambda: stub.ModelInfer.future(infer_request(SHORT)).code() is grpc.StatusCode.UNAVAILABLE)

        assert [call.result().model_name for call in calls] == ["tight"] * 3
        assert server.process.wait(60) == 0


def test_sigterm_amid_many_callers_ends_in_order(repository: Path) -> None:
    """Calls and streams come, are left and end all the time; each call is answered or told to go elsewhere."""
    request = infer_request(SHORT)
    request.model_name = "causal"
    answered: SimpleQueue[grpc.StatusCode] = SimpleQueue()
    gone = threading.Event()

    def call(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        code = grpc.StatusCode.OK
        while code is grpc.StatusCode.OK:
            code = stub.ModelInfer.future(request, timeout=60).code()
            answered.put(code)

    def leave(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        while not gone.is_set():
            stub.ModelInfer.future(request, timeout=60).cancel()
            stub.ModelStreamInfer(iter([request] * 3), timeout=60).cancel()

    with LocalServer(repository) as server, ExitStack() as channels, ThreadPoolExecutor(8) as callers:
        for work in (call, call, leave, call) * 2:
            channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
            callers.submit(work, service_pb2_grpc.GRPCInferenceServiceStub(channels.enter_context(channel)))
        codes = [answered.get(timeout=60) for _ in range(200)]

        server.process.terminate()

        ended = server.process.wait(60)
        gone.set()
        callers.shutdown()
    codes += [answered.get_nowait() for _ in range(answered.qsize())]
    assert ended == 0
    assert Counter(codes) == {grpc.StatusCode.OK: len(codes) - 6, grpc.StatusCode.UNAVAILABLE: 6}


def test_a_health_watch_is_told_that_the_server_goes_away_and_does_not_hold_it(repository: Path) -> None:
    """What a load balancer does: one long stream per server, which must not use up the drain's hour."""
    with (
        LocalServer(repository, "--drain-timeout-seconds", "3600") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

        server.process.terminate()

        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.process.wait(60) == 0


def test_sigterm_says_not_ready_at_once_and_serves_on_for_the_delay(repository: Path) -> None:
    """Load balancers need a while to notice; what they send until then is answered, and a second signal cuts it short."""
    with LocalServer(repository, "--drain-delay-seconds", "3600") as server:
        probes = server.metrics_url.removesuffix("/metrics")
        assert [http_status(f"{probes}{path}") for path in ("/readyz", "/livez", "/no")] == [200, 200, 404]
        with grpc.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

            server.process.terminate()

            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert [http_status(f"{probes}{path}") for path in ("/readyz", "/livez")] == [503, 200]
            assert not stub.ServerReady(service_pb2.ServerReadyRequest()).ready
            assert read_metric(server, "lstm_ready") == 0
            request = infer_request(SHORT)
            request.model_name = "causal"
            codes = [stub.ModelInfer.future(request, timeout=60).code() for _ in range(20)]
        assert codes == [grpc.StatusCode.OK] * 20
        server.process.terminate()
        assert server.process.wait(60) == 0


def test_sigterm_before_it_is_ready_ends_it_with_code_0(tmp_path: Path) -> None:
    for number in range(30):
        write_lstm(tmp_path, f"lstm{number}")
    command = [LSTM_SERVE, "--model-repository", tmp_path, "--grpc-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as loading:
        assert loading.stderr is not None
        for line in loading.stderr:
            if "loaded lstm" in line:
                break
        loading.send_signal(signal.SIGTERM)
        rest = loading.stderr.read()

    assert loading.returncode == 0
    assert "told to stop before it was ready" in rest
    assert "ready: gRPC" not in rest


def test_an_interrupt_from_the_keyboard_does_not_wait(repository: Path) -> None:
    with LocalServer(repository, "--drain-delay-seconds", "3600") as server:
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(60) == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_probes_answer_to_nothing_but_reading(server: LocalServer, method: str) -> None:
    assert http_status(server.metrics_url, method=method) == 405


def http_status(url: str, *, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as page:  # noqa: S310
            return page.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_taken_port_ends_the_start_with_its_address(server: LocalServer, repository: Path) -> None:
    port = server.address.rpartition(":")[2]
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", repository, "--grpc-port", port, "--metrics-port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_metrics_port_ends_the_start(server: LocalServer, repository: Path) -> None:
    port = server.metrics_url.split(":")[2].split("/")[0]
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", repository, "--grpc-port", "0", "--metrics-port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert f"cannot listen on 127.0.0.1:{port} for metrics" in ended.stderr


@pytest.mark.parametrize("damage", ["empty", "tampered"])
def test_a_repository_without_a_good_model_ends_the_start(tmp_path: Path, damage: str) -> None:
    if damage == "tampered":
        (write_lstm(tmp_path) / "model.onnx").write_bytes(b"")
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert "no model version found" in ended.stderr or "were refused" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_threads_that_compute_yield_to_those_that_answer(server: LocalServer) -> None:
    """Each model's loop, and the threads that its engine started; the main thread and the front stay as they are."""
    nice = {
        int(task.name): os.getpriority(os.PRIO_PROCESS, int(task.name))
        for task in Path(f"/proc/{server.process.pid}/task").iterdir()
    }

    front, threads = nice[server.process.pid], Counter(nice.values())
    assert threads.keys() == {front, front + NICENESS}
    assert threads[front + NICENESS] >= "".join(server.log).count("loaded ")
