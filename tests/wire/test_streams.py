"""The rules of a stream, turn by turn."""

from collections.abc import Iterator
from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.manifest import Manifest
from serving.wire.streams import OUTSTANDING
from tests.runner.house import POISON
from tests.support.artefacts import FEATURES
from tests.wire.desk import SECONDS, SLOTS, STREAMS, Desk

S = 1_000_000_000
Answers = Iterator[oip.ModelStreamInferResponse]


@pytest.fixture
def stub(desk: Desk) -> GRPCInferenceServiceStub:
    return desk.stub


def request(value: float, *, steps: int = 2, **parameters: int) -> oip.ModelInferRequest:
    """Make a request of one row that holds one value; the engine answers their sum, and the id tells it as well."""
    x = np.full((1, steps, FEATURES), value, "<f4")
    made = oip.ModelInferRequest(model_name="lstm", id=f"{value:g}", raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    made.outputs.add(name="last")
    for name, number in parameters.items():
        made.parameters[name].int64_param = number
    return made


def last_of(answer: oip.ModelStreamInferResponse) -> float:
    assert not answer.error_message
    return float(np.frombuffer(answer.infer_response.raw_output_contents[0], "<f4")[0])


def status_of(answer: oip.ModelStreamInferResponse) -> tuple[str, str, str]:
    """Return the id, status and reason of a request that failed."""
    assert answer.error_message
    response = answer.infer_response
    assert response.model_name
    return response.id, response.parameters["grpc_status"].string_param, response.parameters["reason"].string_param


def test_no_more_than_the_bound_is_under_way(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    """The queue holds just as many: if one more were read before an answer has gone out, it would be refused."""
    sent = [request(number) for number in range(3 * OUTSTANDING)]
    answers: Answers = stub.ModelStreamInfer(iter(sent), timeout=SECONDS)
    got: list[oip.ModelStreamInferResponse] = []
    while len(got) < len(sent):
        desk.wait_for_waiting(min(OUTSTANDING, len(sent) - len(got)))
        desk.house.clock.ns += S // 100  # who comes now has come later
        desk.house.runner.step()
        rows, _ = desk.house.engine.calls[-1]
        got += [next(answers) for _ in range(rows)]

    assert [last_of(answer) for answer in got] == [2 * FEATURES * number for number in range(len(sent))]
    assert list(answers) == []
    assert desk.ended == {"ok": len(sent)}


def test_what_is_urgent_runs_first_and_is_answered_in_its_turn(manifest: Manifest) -> None:
    sent = [request(1, steps=3, priority=9), request(2, steps=2), request(3, steps=1, priority=1)]
    with Desk(manifest, max_rows=1) as desk:
        answers: Answers = desk.stub.ModelStreamInfer(iter(sent), timeout=SECONDS)
        desk.wait_for_waiting(3)
        desk.house.run_all()

        assert [answer.infer_response.id for answer in answers] == ["1", "2", "3"]
    assert desk.house.engine.calls == [(1, 1), (1, 2), (1, 3)]


def test_streams_and_single_calls_share_an_engine_call(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    streams: list[Answers] = [stub.ModelStreamInfer(iter([request(n)]), timeout=SECONDS) for n in range(3)]
    single = stub.ModelInfer.future(request(3), timeout=SECONDS)
    desk.wait_for_waiting(4)

    desk.house.run_all()

    assert [last_of(next(answers)) for answers in streams] == [0, 6, 12]
    assert np.frombuffer(single.result().raw_output_contents[0], "<f4")[0] == 18
    assert desk.house.engine.calls == [(4, 2)]


def test_an_engine_fault_fails_one_answer_of_the_stream(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    answers: Answers = stub.ModelStreamInfer(iter([request(1), request(POISON), request(2)]), timeout=SECONDS)
    desk.wait_for_waiting(3)

    desk.house.run_all()

    first, bad, second = answers
    assert [last_of(first), last_of(second)] == [6, 12]
    assert status_of(bad) == (f"{POISON:g}", "INTERNAL", "internal")
    assert "the server's log has it as" in bad.error_message


def test_a_message_and_its_stream_have_deadlines_of_their_own(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    """The stream's is an hour, by a clock that the test moves."""
    sent = [request(1, timeout=10_000_000), request(2), request(3, timeout=7_200_000_000)]
    answers: Answers = stub.ModelStreamInfer(iter(sent), timeout=3600)
    desk.wait_for_waiting(3)

    desk.house.clock.ns = 11 * S
    desk.house.runner.expire()
    assert status_of(next(answers)) == ("1", "DEADLINE_EXCEEDED", "deadline")
    assert desk.house.batcher.waiting_rows == 2

    desk.house.clock.ns = 3600 * S
    desk.house.runner.expire()
    assert [status_of(answer)[:2] for answer in answers] == [("2", "DEADLINE_EXCEEDED"), ("3", "DEADLINE_EXCEEDED")]
    assert desk.ended == {"deadline": 3}
    assert desk.house.engine.calls == []


def test_what_the_backlog_makes_impossible_is_refused_with_the_time_to_wait(
    desk: Desk, stub: GRPCInferenceServiceStub
) -> None:
    desk.house.cost.warm_start([(1, 1, 0.01), (1, 100, 1.0), (8, 1, 0.08), (8, 100, 8.0)])
    sent = [*(request(n, steps=100) for n in range(5)), request(5, steps=100, timeout=1_200_000)]
    answers: Answers = stub.ModelStreamInfer(iter(sent), timeout=3600)
    desk.wait_for(lambda: desk.ended["overload"] == 1)

    desk.house.run_all()

    *good, refused = answers
    assert [last_of(answer) for answer in good] == [100 * FEATURES * n for n in range(5)]
    assert status_of(refused) == ("5", "RESOURCE_EXHAUSTED", "overload")
    assert refused.infer_response.parameters["retry_after_ms"].int64_param > 0


def test_each_message_takes_a_slot_as_a_call_does(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    for _ in range(SLOTS - 1):
        desk.slots.take()
    answers: Answers = stub.ModelStreamInfer(iter([request(1), request(2)]), timeout=SECONDS)
    desk.wait_for(lambda: desk.ended["queue_full"] == 1)
    desk.house.run_all()

    good, refused = answers
    assert last_of(good) == 6
    assert status_of(refused) == ("2", "RESOURCE_EXHAUSTED", "queue_full")
    assert "retry_after_ms" not in refused.infer_response.parameters
    for _ in range(SLOTS - 1):
        desk.slots.give_back()


def test_a_cancelled_stream_leaves_no_row_no_slot_and_no_place(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    """Not even when the next message was not read because of the bound."""
    sent = [request(number) for number in range(OUTSTANDING + 5)]
    answers = stub.ModelStreamInfer(iter(sent), timeout=SECONDS)
    desk.wait_for_waiting(OUTSTANDING)

    answers.cancel()

    desk.wait_for(lambda: desk.ended["cancelled"] == OUTSTANDING)
    assert desk.house.batcher.live_tickets == 0
    desk.slots.wait_empty(seconds=SECONDS)
    desk.stream_slots.wait_empty(seconds=SECONDS)
    for slots, count in ((desk.slots, SLOTS), (desk.stream_slots, STREAMS)):
        for _ in range(count):
            slots.take()  # raises if one were missing
        for _ in range(count):
            slots.give_back()


def test_a_drain_answers_what_has_been_read_and_refuses_the_rest(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    sent: SimpleQueue[oip.ModelInferRequest | None] = SimpleQueue()
    answers: Answers = stub.ModelStreamInfer(iter(sent.get, None), timeout=SECONDS)
    for number in range(3):
        sent.put(request(number))
    desk.wait_for_waiting(3)

    desk.drain()
    sent.put(request(3))
    desk.house.run_all()

    assert [last_of(next(answers)) for _ in range(3)] == [0, 6, 12]
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "go on with the last state on another replica" in str(ended.value.details())
    sent.put(None)
