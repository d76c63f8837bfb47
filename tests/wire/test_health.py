"""Health checks: what is told to whom, and that a watcher who reads nothing is nobody else's trouble."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.wire.health import WATCH
from serving.wire.others import SERVICE_NAME
from tests.loadtests.http2_peer import DATA, framed
from tests.wire.deaf import Deaf, eventually
from tests.wire.desk import SECONDS, Desk

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Request = health_pb2.HealthCheckRequest


@pytest.fixture
def stub(desk: Desk) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(desk.channel)


@pytest.mark.parametrize("service", ["", SERVICE_NAME])
def test_a_watch_is_told_what_a_check_is(desk: Desk, stub: health_pb2_grpc.HealthStub, service: str) -> None:
    watch = stub.Watch(Request(service=service), timeout=SECONDS)

    for ready, status in ((True, SERVING), (False, NOT_SERVING), (True, SERVING)):
        desk.set_ready(ready=ready)
        assert next(answer for answer in watch if answer.status == status)
        assert stub.Check(Request(service=service), timeout=SECONDS).status == status


def test_a_service_that_nobody_knows_is_not_found_and_may_be_watched_all_the_same(
    stub: health_pb2_grpc.HealthStub,
) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        stub.Check(Request(service="other"), timeout=SECONDS)

    assert ended.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'other'" in ended.value.details()
    assert SERVICE_NAME in ended.value.details()
    assert next(stub.Watch(Request(service="other"), timeout=SECONDS)).status == SERVICE_UNKNOWN


def test_watches_beyond_what_fits_are_refused_and_those_that_left_make_room(
    desk: Desk, stub: health_pb2_grpc.HealthStub
) -> None:
    slots = desk.health.slots
    slots.count = 2
    watches = [stub.Watch(Request(), timeout=SECONDS) for _ in range(2)]
    assert [next(watch).status for watch in watches] == [SERVING, SERVING]

    with pytest.raises(grpc.RpcError) as ended:
        next(stub.Watch(Request(), timeout=SECONDS))
    assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for watch in watches:
        watch.cancel()
    slots.wait_empty(seconds=SECONDS)

    assert next(stub.Watch(Request(), timeout=SECONDS)).status == SERVING


def test_the_end_of_the_server_is_a_status_to_retry_elsewhere(desk: Desk, stub: health_pb2_grpc.HealthStub) -> None:
    watch = stub.Watch(Request(), timeout=SECONDS)
    assert next(watch).status == SERVING

    desk.stop()

    assert next(watch).status == NOT_SERVING
    with pytest.raises(grpc.RpcError) as ended:
        next(watch)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_call_without_a_message_is_refused(desk: Desk) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        next(desk.channel.stream_stream(WATCH)(iter(()), timeout=SECONDS))

    assert ended.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_watcher_that_lets_nothing_through_silences_nobody(desk: Desk, stub: health_pb2_grpc.HealthStub) -> None:
    """When it listens, it hears the newest status, and none of those between."""
    with Deaf(desk.port, WATCH, b"") as watcher:
        eventually(lambda: len(desk.health._watches) == 1)

        for ready, status in ((False, NOT_SERVING), (True, SERVING), (False, NOT_SERVING)):
            desk.set_ready(ready=ready)
            assert stub.Check(Request(), timeout=SECONDS).status == status

        watcher.listen()
        answers = (content for kind, _, content in watcher.frames() if kind == DATA and content)
        assert [next(answers), next(answers)] == [
            framed(health_pb2.HealthCheckResponse(status=status).SerializeToString())
            for status in (SERVING, NOT_SERVING)
        ]


def test_a_watcher_that_lets_nothing_through_does_not_hold_a_server_that_stops(desk: Desk) -> None:
    with Deaf(desk.port, WATCH, b"") as watcher:
        eventually(lambda: len(desk.health._watches) == 1)

        desk.stop()

        watcher.wait_for_the_end()
