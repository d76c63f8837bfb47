"""A front that is behind: who is refused unread, who is not, and when that ends."""

from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from tests.support.artefacts import FEATURES
from tests.wire.desk import SECONDS, Desk

S = 1_000_000_000
CALLS = 12
REQUEST = oip.ModelInferRequest(
    model_name="lstm",
    inputs=[oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=(1, 2, FEATURES))],
    raw_input_contents=[np.ones((1, 2, FEATURES), "<f4").tobytes()],
)


class Slow:
    """Calls that take the front ten seconds each, by a clock that the test moves; others come during the last one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._queued: SimpleQueue[None] = SimpleQueue()
        self._go: SimpleQueue[None] = SimpleQueue()
        desk.during_put = self._wait_to_go
        send = desk.stub.ModelInfer.future
        self.calls = [send(REQUEST)]
        self._queued.get(timeout=SECONDS)
        self.calls += [send(REQUEST) for _ in range(1, CALLS)]
        self._everything_has_come()
        for _ in range(1, CALLS):
            desk.house.clock.ns += 10 * S
            self._go.put(None)
            self._queued.get(timeout=SECONDS)

    def end(self) -> None:
        """Let the front go on, now that others have come."""
        self._everything_has_come()
        self._desk.during_put = lambda: None
        self._go.put(None)

    def _everything_has_come(self) -> None:
        """Return when the server has read what was sent before, by the same connection."""
        self._desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS)

    def _wait_to_go(self) -> None:
        self._queued.put(None)
        self._go.get(timeout=SECONDS)


def first_taken(desk: Desk) -> grpc.Future:
    """Send calls one after the other until one is taken: the first may come before the front sees that it is idle."""
    waiting = desk.house.batcher.waiting_rows
    for _ in range(CALLS):
        refused = desk.ended["overload"]
        call = desk.stub.ModelInfer.future(REQUEST, timeout=SECONDS)
        desk.wait_for(lambda: desk.house.batcher.waiting_rows > waiting or desk.ended["overload"] > refused)  # noqa: B023
        if desk.house.batcher.waiting_rows > waiting:
            return call
    raise AssertionError("a front that has caught up refuses calls")


def test_a_call_that_has_waited_too_long_is_refused_unread_until_the_front_has_caught_up(desk: Desk) -> None:
    send = desk.stub.ModelInfer.future
    slow = Slow(desk)
    hurried = send(REQUEST, timeout=SECONDS)
    slow.end()

    assert hurried.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "more calls come than this server can take" in hurried.details()
    trailing = dict(hurried.trailing_metadata())
    assert trailing["reason"] == "overload"
    assert SECONDS / 4 * 1000 < int(trailing["grpc-retry-pushback-ms"]) <= 10_000 * CALLS
    desk.wait_for_waiting(CALLS)
    assert desk.ended == {"overload": 1}

    caught_up = first_taken(desk)
    desk.house.run_all()

    for call in [*slow.calls, caught_up]:
        assert call.result(SECONDS).raw_output_contents


@pytest.mark.parametrize("timeout", [None, 24 * 3600])
def test_a_call_that_has_the_time_is_taken_by_a_front_that_is_behind(desk: Desk, timeout: float | None) -> None:
    slow = Slow(desk)
    patient = desk.stub.ModelInfer.future(REQUEST, timeout=timeout)
    slow.end()
    desk.wait_for_waiting(CALLS + 1)
    desk.house.run_all()

    for call in [*slow.calls, patient]:
        assert call.result(SECONDS).raw_output_contents
