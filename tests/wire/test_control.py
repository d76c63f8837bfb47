"""Calls other than inference: those that say nothing, or take no answer, keep nobody else from being answered."""

import threading
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, Self

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving._proto import open_inference_pb2 as oip
from serving.wire.control import PROBE_THREADS, THREADS
from serving.wire.others import SERVICE_NAME
from tests.wire.deaf import Deaf, eventually
from tests.wire.desk import SECONDS, Desk

MANY = 2 * THREADS
LIVE = f"/{SERVICE_NAME}/ServerLive"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
QUESTION = reflection_pb2.ServerReflectionRequest(list_services="")


class Silent:
    """Calls that have begun and bring no message; inside, the server has them all."""

    def __init__(self, desk: Desk, method: str, count: int) -> None:
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        call: Any = desk.channel.stream_stream(method)
        self.calls = [call(iter(self._messages.get, None), timeout=SECONDS) for _ in range(count)]
        eventually(lambda: open_calls(desk) == count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for call in self.calls:
            call.cancel()
            self._messages.put(None)


class Loads:
    """An administrator's calls that load a model until they are released; some have begun to."""

    def __init__(self, desk: Desk, count: int, *, begun: int) -> None:
        self.released = threading.Event()
        at_work = threading.Semaphore(0)

        def load(_: str) -> None:
            at_work.release()
            assert self.released.wait(SECONDS)

        desk.load = load
        request = oip.RepositoryModelLoadRequest(model_name="lstm")
        self.calls = [desk.stub.RepositoryModelLoad.future(request, timeout=SECONDS) for _ in range(count)]
        for _ in range(begun):
            assert at_work.acquire(timeout=SECONDS)


def open_calls(desk: Desk) -> int:
    return desk.control._slots._taken


def check_answered(desk: Desk) -> None:
    assert desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS).live
    assert desk.stub.ModelMetadata(oip.ModelMetadataRequest(name="lstm"), timeout=SECONDS).name == "lstm"
    health = health_pb2_grpc.HealthStub(desk.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status


@pytest.mark.parametrize("method", [LIVE, REFLECTION, "/grpc.health.v1.Health/Check"])
def test_calls_that_say_nothing_keep_nobody_from_being_answered(desk: Desk, method: str) -> None:
    """There are more of them than threads."""
    with Silent(desk, method, MANY):
        check_answered(desk)

    eventually(lambda: open_calls(desk) == 0)


@pytest.mark.parametrize("path", [LIVE, REFLECTION])
def test_callers_that_take_no_answer_keep_nobody_from_being_answered(desk: Desk, path: str) -> None:
    message = QUESTION.SerializeToString() if path == REFLECTION else b""
    with ExitStack() as connections:
        for _ in range(MANY):
            connections.enter_context(Deaf(desk.port, path, message))
        eventually(lambda: desk.unread.bytes > 0 and len(desk.unread._calls) == MANY)

        check_answered(desk)

    eventually(lambda: open_calls(desk) == len(desk.unread._calls) == 0)


def test_calls_beyond_what_fits_are_refused_with_a_reason(desk: Desk) -> None:
    desk.control._slots.count = 2
    with Silent(desk, LIVE, 2), pytest.raises(grpc.RpcError) as refused:
        desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.value.trailing_metadata())["reason"] == "queue_full"
    eventually(lambda: open_calls(desk) == 0)
    check_answered(desk)


@pytest.mark.parametrize("method", [LIVE, "/grpc.health.v1.Health/Check"])
def test_a_call_that_ends_without_its_message_is_told_so(desk: Desk, method: str) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        list(desk.channel.stream_stream(method)(iter(()), timeout=SECONDS))

    assert ended.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert ended.value.details().endswith("takes exactly one message")


def test_reflection_answers_as_many_questions_as_a_call_brings_in_their_order(desk: Desk) -> None:
    names = [f"no.{number}" for number in range(100)]
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]

    answers = reflection_pb2_grpc.ServerReflectionStub(desk.channel).ServerReflectionInfo(
        iter(questions), timeout=SECONDS
    )

    assert [answer.original_request.file_containing_symbol for answer in answers] == names
    eventually(lambda: open_calls(desk) == 0)


def test_administrators_whose_models_take_long_keep_no_probe_waiting(desk: Desk) -> None:
    """There are more of them than threads."""
    loads = Loads(desk, MANY, begun=THREADS - PROBE_THREADS)

    assert desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS).live
    assert desk.stub.ServerReady(oip.ServerReadyRequest(), timeout=SECONDS).ready
    assert health_pb2_grpc.HealthStub(desk.channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status

    loads.released.set()
    for call in loads.calls:
        call.result()


def test_a_caller_that_leaves_while_it_is_answered_leaves_its_place(desk: Desk) -> None:
    """The work itself cannot be taken back; it is all that is left of the call."""
    loads = Loads(desk, 1, begun=1)
    (call,) = loads.calls

    call.cancel()

    eventually(lambda: open_calls(desk) == 0)
    loads.released.set()
    check_answered(desk)


def test_a_server_that_stops_does_not_wait_for_what_an_administrator_asked_for(desk: Desk) -> None:
    loads = Loads(desk, 1, begun=1)
    (call,) = loads.calls

    desk.stop()

    assert call.code() is not grpc.StatusCode.OK
    loads.released.set()
