"""Calls that come to no model are counted as well, by why they were refused."""

import grpc
import pytest

from serving._proto import open_inference_pb2 as oip
from tests.wire.desk import SECONDS, STREAMS, Desk

REQUEST = oip.ModelInferRequest(model_name="lstm")


def test_a_call_while_the_server_stops(desk: Desk) -> None:
    desk.drain()

    assert desk.stub.ModelInfer.future(REQUEST, timeout=SECONDS).code() is grpc.StatusCode.UNAVAILABLE
    assert desk.ended == {"draining": 1}


def test_a_stream_for_which_there_is_no_room(desk: Desk) -> None:
    for _ in range(STREAMS):
        desk.stream_slots.take()

    stream = desk.stub.ModelStreamInfer(iter([REQUEST]), timeout=SECONDS)

    assert stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert desk.ended == {"queue_full": 1}
    for _ in range(STREAMS):
        desk.stream_slots.give_back()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_bytes_that_are_no_message(desk: Desk, method: str) -> None:
    call = desk.channel.stream_stream(f"/inference.GRPCInferenceService/{method}")(iter([b"\xff"]), timeout=SECONDS)

    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert desk.ended == {"invalid": 1}
