"""The clock is set, or the process stands still: nothing is lost, and only what is late expires."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2_grpc

from tests.socket.chaos import wrapped
from tests.socket.conftest import read_metric, sequence
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import SHORT, infer_request, until
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 4
HOUR = 3600
LONG = sequence(np.random.default_rng(3), 1, 50_000)
"""Takes about a second."""
PATIENT_SECONDS = 300
IMPATIENT_SECONDS = 0.5
needs_faketime = pytest.mark.skipif(
    shutil.which("faketime") is None, reason="needs libfaketime: apt-get install faketime"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for a storm, and one that runs a request at a time."""
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm")
    write_lstm(root, "tight", hidden=128)
    (root / "tight" / "model.yaml").write_text("max_batch_rows: 1\nmax_steps: 100000\n")
    return root


class WallClock:
    """The time of day of one server, which can be set."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "offset"
        self.set(0)
        self.program = wrapped(
            directory,
            "export LD_PRELOAD='/usr/$LIB/faketime/libfaketimeMT.so.1'",  # the loader knows what LIB is
            f"export FAKETIME_TIMESTAMP_FILE='{self._file}' FAKETIME_NO_CACHE=1",
            "export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1",
        )

    def set(self, seconds: int) -> None:
        """Let it differ from the real one by so much, from one moment to the next."""
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{seconds:+d}s\n")
        aside.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def server(models: Path, clock: WallClock) -> Iterator[LocalServer]:
    with LocalServer(models, "--log-requests", program=clock.program) as running:
        yield running
    assert running.process.returncode == 0


@pytest.fixture
def expected(server: LocalServer) -> dict:
    with triton.InferenceServerClient(server.address) as client:
        return expectations(client, "lstm", X, "1")


def told_offset(server: LocalServer) -> float:
    """Return how far the server's time of day is from the real one, by when it last answered."""
    told = read_metric(server, "lstm_last_request_timestamp_seconds", model="lstm")
    return told - time.time()  # noqa: TID251  the time of day is what is asked for


@needs_faketime
def test_a_clock_that_is_set_costs_no_request_and_bends_no_metric(
    server: LocalServer, clock: WallClock, expected: dict
) -> None:
    """An hour forward, two back, and right again, amid calls that have a minute each."""
    with Storm(server.address, "lstm", expected, X, CALLERS) as storm:
        for offset in (HOUR, -HOUR, 0):
            storm.until_more(10)  # a call takes long: libfaketime is asked for the time at every turn
            clock.set(offset)
            storm.until_more(15)
            assert told_offset(server) == pytest.approx(offset, abs=HOUR / 2)  # it was set

    assert (storm.failed, storm.wrong) == ({}, {})
    answered = storm.answered["1"] + 1
    for name in ("lstm_request_seconds", "lstm_queue_delay_seconds"):
        assert read_metric(server, f"{name}_count", model="lstm") >= answered
        assert 0 < read_metric(server, f"{name}_sum", model="lstm") < HOUR / 2
        in_time = read_metric(server, f"{name}_bucket", model="lstm", le="10.0")
        assert in_time == read_metric(server, f"{name}_count", model="lstm")


@needs_faketime
@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_deadlines_are_kept_while_the_clock_is_set(server: LocalServer, clock: WallClock, step: int) -> None:
    """Of those behind the engine's work, the one that can be met is met, and the one that is late is told so."""
    with grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        running = stub.ModelInfer.future(infer_request(LONG), timeout=PATIENT_SECONDS)
        until(lambda: read_metric(server, "lstm_running_rows", model="tight") == 1)
        patient = stub.ModelInfer.future(infer_request(SHORT), timeout=PATIENT_SECONDS)
        until(lambda: read_metric(server, "lstm_queue_rows", model="tight") == 1)

        clock.set(step)
        refused = stub.ModelInfer.future(infer_request(SHORT, timeout=1), timeout=PATIENT_SECONDS)

        assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert patient.result().model_name == "tight"
        assert running.result().model_name == "tight"
        assert stub.ModelInfer(infer_request(SHORT), timeout=PATIENT_SECONDS).model_name == "tight"


def test_a_process_that_stood_still_goes_on_with_what_can_still_be_met(models: Path) -> None:
    """What waited is answered, what became late in the meantime is told so, and those that come later notice nothing."""
    with LocalServer(models) as server, grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with triton.InferenceServerClient(server.address) as client:
            expected = expectations(client, "lstm", X, "1")
        running = stub.ModelInfer.future(infer_request(LONG), timeout=PATIENT_SECONDS)
        until(lambda: read_metric(server, "lstm_running_rows", model="tight") == 1)
        with Storm(server.address, "lstm", expected, X, CALLERS) as storm:
            storm.until_more(50)
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                waiting = [stub.ModelInfer.future(infer_request(SHORT), timeout=PATIENT_SECONDS) for _ in range(5)]
                short = infer_request(SHORT, timeout=int(IMPATIENT_SECONDS * 1e6))
                late = [stub.ModelInfer.future(short, timeout=IMPATIENT_SECONDS) for _ in range(5)]
                codes = [call.code() for call in late]  # by the clients' own clocks: nobody else can tell
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            storm.until_more(50)
            answers = [call.result().model_name for call in (running, *waiting)]

        until(lambda: read_metric(server, "lstm_live_rows", model="tight") == 0)
        after = [stub.ModelInfer.future(infer_request(SHORT), timeout=PATIENT_SECONDS) for _ in range(5)]
        assert [call.code() for call in after] == [grpc.StatusCode.OK] * 5

    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 5
    assert answers == ["tight"] * 6
    assert (storm.failed, storm.wrong) == ({}, {})
    assert server.process.returncode == 0
