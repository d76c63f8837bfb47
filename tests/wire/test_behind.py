"""A front that is behind: who is refused unread, who is not, and when that ends."""

from collections.abc import Iterator
from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving.manifest import Manifest, read_manifest
from tests.support.artefacts import FEATURES, write_lstm
from tests.wire.desk import SECONDS, Desk

S = 1_000_000_000
CALLS = 12
LATE = 10
"""The call during which others come."""
REQUEST = oip.ModelInferRequest(
    model_name="lstm",
    inputs=[oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=(1, 2, FEATURES))],
    raw_input_contents=[np.ones((1, 2, FEATURES), "<f4").tobytes()],
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture
def desk(manifest: Manifest) -> Iterator[Desk]:
    with Desk(manifest) as serving:
        yield serving


def test_calls_that_cannot_wait_are_refused_until_the_front_has_caught_up(desk: Desk) -> None:
    """Each call takes the front ten seconds, by a clock that the test moves, and the others have come meanwhile."""
    queued: SimpleQueue[None] = SimpleQueue()
    go: SimpleQueue[None] = SimpleQueue()

    def wait_to_go() -> None:
        queued.put(None)
        go.get(timeout=SECONDS)

    desk.during_put = wait_to_go
    send = desk.stub.ModelInfer.future
    calls = [send(REQUEST)]
    patient, hurried = [], []
    for turn in range(CALLS):
        queued.get(timeout=SECONDS)
        if turn == 0:
            calls += [send(REQUEST) for _ in range(1, CALLS)]
        if turn == LATE:
            patient = [send(REQUEST, timeout=24 * 3600), send(REQUEST)]
            hurried = [send(REQUEST, timeout=SECONDS)]
        desk.stub.ServerLive(oip.ServerLiveRequest(), timeout=SECONDS)  # by the same connection: what was sent has come
        desk.house.clock.ns += 10 * S
        go.put(None)
    for _ in patient:
        queued.get(timeout=SECONDS)
        go.put(None)

    for call in hurried:
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "more calls come than this server can take" in call.details()
        trailing = dict(call.trailing_metadata())
        assert trailing["reason"] == "overload"
        assert 15_000 < int(trailing["grpc-retry-pushback-ms"]) <= 10_000 * CALLS
    desk.wait_for_waiting(CALLS + len(patient))
    assert desk.ended == {"overload": len(hurried)}

    desk.during_put = lambda: None
    caught_up = send(REQUEST, timeout=SECONDS / 2)  # less than four times what the last calls waited
    desk.wait_for_waiting(CALLS + len(patient) + 1)
    desk.house.run_all()

    for call in [*calls, *patient, caught_up]:
        assert call.result(SECONDS).raw_output_contents
