"""When there is more work than room or time: bounded queue, deadlines, cancellation; control calls always answer.

The model `tight` runs one request at a time and lets two rows wait, so a long request in the engine and two behind it
fill the house.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from training.local_server import LocalServer

LONG = sequence(np.random.default_rng(3), 1, 50_000)
SHORT = LONG[:, :2].copy()


def infer_request(x: np.ndarray, **parameters: int) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="tight", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.outputs.add(name="last")
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again until the condition holds; fail after a minute."""
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "the condition never came true"


class Busy:
    """A server whose engine is working on a long request, and a stub to call it."""

    def __init__(self, server: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        self.server = server
        self.stub = stub
        self.long = self.send(LONG)
        until(lambda: self.running() == 1)

    def send(self, x: np.ndarray, **parameters: int) -> grpc.Future:
        return self.stub.ModelInfer.future(infer_request(x, **parameters), timeout=120)

    def waiting(self) -> int:
        return int(read_metric(self.server, "lstm_queue_rows", model="tight"))

    def running(self) -> int:
        return int(read_metric(self.server, "lstm_running_rows", model="tight"))


@pytest.fixture
def busy(server: LocalServer) -> Iterator[Busy]:
    with grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        house = Busy(server, stub)
        yield house
        house.long.result()
        stub.ModelInfer(infer_request(SHORT), timeout=120)


def test_a_full_queue_refuses_at_once_and_keeps_what_it_took(busy: Busy) -> None:
    waiting = [busy.send(LONG)]
    until(lambda: busy.waiting() == 1)
    waiting.append(busy.send(LONG))
    until(lambda: busy.waiting() == 2)

    refused = busy.send(SHORT)

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the queue of model 'tight' is full (2 rows wait)" in refused.details()
    assert ("reason", "queue_full") in refused.trailing_metadata()
    assert not waiting[1].done(), "the refusal came while the accepted ones were still waiting"
    assert [call.result().outputs[0].name for call in waiting] == ["last", "last"]


def test_a_request_that_expires_in_the_queue_is_told_and_never_run(busy: Busy) -> None:
    calls_before = read_metric(busy.server, "lstm_engine_run_seconds_count", model="tight")

    expired = busy.send(SHORT, timeout=1)

    assert expired.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ("reason", "deadline") in expired.trailing_metadata()
    busy.long.result()
    assert read_metric(busy.server, "lstm_engine_run_seconds_count", model="tight") == calls_before + 1


def test_what_cannot_be_met_behind_the_backlog_is_refused_at_once_with_a_pushback(busy: Busy) -> None:
    """The long request in the engine takes about a second; a tenth of one is not enough to wait for it."""
    refused = busy.send(SHORT, timeout=100_000)

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    metadata = dict(refused.trailing_metadata())
    assert metadata["reason"] == "overload"
    assert int(metadata["grpc-retry-pushback-ms"]) > 0
    assert not busy.long.done(), "the refusal did not wait for the engine"


def test_all_that_cannot_be_met_are_told_so_in_the_same_words_and_counted(busy: Busy) -> None:
    counted = read_metric(busy.server, "lstm_requests_total", model="tight", outcome="overload")

    calls = [busy.send(SHORT, timeout=100_000) for _ in range(50)]

    assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len({re.sub(r"[0-9.]+", "#", call.details()) for call in calls}) == 1
    for call in calls:
        pushback = dict(call.trailing_metadata())["grpc-retry-pushback-ms"]
        assert int(pushback) > 0
        assert f"retry after {pushback} ms" in call.details()
    assert not busy.long.done(), "the refusals did not wait for the engine"
    assert read_metric(busy.server, "lstm_requests_total", model="tight", outcome="overload") == counted + len(calls)


def test_a_cancelled_request_leaves_the_queue(busy: Busy) -> None:
    cancelled_before = read_metric(busy.server, "lstm_requests_total", model="tight", outcome="cancelled")
    leaving, staying = busy.send(LONG), busy.send(LONG)
    until(lambda: busy.waiting() == 2)

    leaving.cancel()

    until(lambda: busy.waiting() == 1)
    assert not staying.done()
    assert staying.result().outputs
    until(
        lambda: (
            read_metric(busy.server, "lstm_requests_total", model="tight", outcome="cancelled") == cancelled_before + 1
        )
    )


def test_another_model_answers_while_one_is_busy(busy: Busy, client: triton.InferenceServerClient) -> None:
    assert client.infer("lstm", [tensor("x", SHORT)]).as_numpy("last").shape == (1, 8)
    assert not busy.long.done()


def test_control_calls_answer_while_every_inference_slot_is_taken(repository: Path) -> None:
    """Liveness must not fail because the server has much to do."""
    with (
        LocalServer(repository, "--max-inflight-requests", "2") as small,
        grpc.insecure_channel(small.address) as channel,
        triton.InferenceServerClient(small.address) as control,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        taken = [stub.ModelInfer.future(infer_request(LONG), timeout=120)]
        until(lambda: read_metric(small, "lstm_running_rows", model="tight") == 1)
        taken.append(stub.ModelInfer.future(infer_request(LONG), timeout=120))
        until(lambda: read_metric(small, "lstm_queue_rows", model="tight") == 1)

        refused = stub.ModelInfer.future(infer_request(SHORT), timeout=120)

        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 requests are in flight already" in refused.details()
        assert control.is_server_ready()
        assert not taken[1].done()
        assert [call.result().model_name for call in taken] == ["tight", "tight"]


def test_more_requests_than_one_batch_holds_are_all_answered(client: triton.InferenceServerClient) -> None:
    rng = np.random.default_rng(4)
    inputs = [sequence(rng, 1, 1 + number % 7) for number in range(200)]

    answers = infer_together(client, "lstm", inputs)

    assert [answer.as_numpy("steps").shape[1] for answer in answers] == [x.shape[1] for x in inputs]
