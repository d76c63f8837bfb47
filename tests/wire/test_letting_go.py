"""What is over is let go at once, not when the garbage collector runs.

gRPC core counts a call until nothing holds it, and refuses new ones on a connection where it counts too many.
"""

import gc
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving.wire.completions import CoreCall
from serving.wire.pending import Pending
from serving.wire.streams import Stream
from tests.support.artefacts import FEATURES
from tests.wire.desk import SECONDS, Desk

CALLS = 20
GOOD = oip.ModelInferRequest(
    model_name="lstm",
    inputs=[oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=(1, 2, FEATURES))],
    raw_input_contents=[np.ones((1, 2, FEATURES), "<f4").tobytes()],
)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Only what nothing refers to goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held(kinds: tuple[type, ...] = (CoreCall, Pending, Stream)) -> list[object]:
    return [each for each in gc.get_objects() if type(each) in kinds]  # isinstance would wake lazy modules


def answered(desk: Desk) -> None:
    calls = [desk.stub.ModelInfer.future(GOOD) for _ in range(CALLS)]
    desk.wait_for_waiting(CALLS)
    desk.house.run_all()
    assert all(call.result(SECONDS).model_name for call in calls)


def invalid(desk: Desk) -> None:
    for _ in range(CALLS):
        assert desk.stub.ModelInfer.future(oip.ModelInferRequest(model_name="lstm")).code().name == "INVALID_ARGUMENT"


def unknown(desk: Desk) -> None:
    for _ in range(CALLS):
        assert desk.stub.ModelInfer.future(oip.ModelInferRequest(model_name="x")).code().name == "NOT_FOUND"


def cancelled(desk: Desk) -> None:
    calls = [desk.stub.ModelInfer.future(GOOD) for _ in range(CALLS)]
    desk.wait_for_waiting(CALLS)
    for call in calls:
        call.cancel()
    desk.wait_for(lambda: desk.ended["cancelled"] == CALLS)


def late(desk: Desk) -> None:
    calls = [desk.stub.ModelInfer.future(GOOD, timeout=SECONDS) for _ in range(CALLS)]
    desk.wait_for_waiting(CALLS)
    desk.house.clock.ns += 2 * SECONDS * 10**9
    desk.house.runner.expire()
    assert {call.code().name for call in calls} == {"DEADLINE_EXCEEDED"}


def streamed(desk: Desk) -> None:
    answers = desk.stub.ModelStreamInfer(iter([GOOD, oip.ModelInferRequest(model_name="lstm"), GOOD]))
    desk.wait_for_waiting(2)
    desk.house.run_all()
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]


def garbage(desk: Desk) -> None:
    send = desk.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError, match="no ModelInferRequest"):
        list(send(iter([b"\xff\xff"])))


@pytest.mark.parametrize("calls", [answered, invalid, unknown, cancelled, late, streamed, garbage])
def test_nothing_of_a_call_is_left(desk: Desk, calls: Callable[[Desk], None]) -> None:
    calls(desk)

    for _ in range(100):  # the front may still be on its way out of the last one
        if not held():
            break
        desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS)
    assert held() == []
