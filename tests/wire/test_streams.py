"""The rules of a stream, turn by turn: a real server on loopback before a runner whose turns the test makes."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.inbox import Reply
from serving.manifest import Manifest, read_manifest
from serving.policy import Policy
from serving.repository import Model, Repository
from serving.tensors import Rows
from serving.wire.inference import Inference
from serving.wire.server import GrpcServer
from serving.wire.service import InferenceService
from serving.wire.slots import Slots
from serving.wire.streams import OUTSTANDING
from tests.runner.house import POISON, House
from tests.support.artefacts import FEATURES, write_lstm

SECONDS = 60
SLOTS = 2 * OUTSTANDING
S = 1_000_000_000
Answers = Iterator[oip.ModelStreamInferResponse]


class Desk:
    """A server whose runner turns when told, and what comes in there: also its inbox, and its request metrics."""

    def __init__(self, manifest: Manifest, *, max_rows: int = 8, max_queue_rows: int = OUTSTANDING) -> None:
        self.house = House(manifest, max_rows=max_rows, max_queue_rows=max_queue_rows)
        self.ended: Counter[str] = Counter()
        self._came = threading.Condition()
        self.slots = Slots(SLOTS, what="requests are in flight", setting="--max-inflight-requests")
        self.stream_slots = Slots(4, what="streams are open", setting="--max-streams")
        model = Model(manifest=manifest, policy=Policy.model_validate({}), inbox=self)
        repository = Repository({(manifest.name, manifest.version): model}, {})
        inference = Inference(repository=repository, metrics=self, clock=self.house.clock, slots=self.slots)
        service = InferenceService(inference, repository, stream_slots=self.stream_slots)
        self.server = GrpcServer(service, self.slots, address="127.0.0.1:0", threads=SLOTS + 4, max_message_bytes=2**20)

    def put(self, rows: Rows, reply: Reply, *, deadline_ns: int | None = None, priority: int | None = None) -> int:
        ticket_id = self.house.runner.put(rows, reply, deadline_ns=deadline_ns, priority=priority)
        self._notify()
        return ticket_id

    def cancel(self, ticket_id: int) -> None:
        self.house.runner.cancel(ticket_id)
        self._notify()

    def request_ended(self, model: str, version: str, outcome: str, seconds: float) -> None:
        assert (model, version) == ("lstm", "1")
        assert seconds >= 0
        self.ended[outcome] += 1
        self._notify()

    def not_served(self, reason: str) -> None:
        self.ended[reason] += 1
        self._notify()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when it is true; it is looked at whenever a request comes, goes or ends."""
        with self._came:
            assert self._came.wait_for(condition, SECONDS), "the condition never came true"

    def wait_for_waiting(self, rows: int) -> None:
        self.wait_for(lambda: self.house.batcher.waiting_rows == rows)

    def _notify(self) -> None:
        with self._came:
            self._came.notify_all()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture
def desk(manifest: Manifest) -> Iterator[Desk]:
    made = Desk(manifest)
    made.server.start()
    yield made
    made.server.stop(grace_seconds=0)


@pytest.fixture
def stub(desk: Desk) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{desk.server.port}") as channel:
        yield GRPCInferenceServiceStub(channel)


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
        desk.house.runner.step()
        rows, _ = desk.house.engine.calls[-1]
        got += [next(answers) for _ in range(rows)]

    assert [last_of(answer) for answer in got] == [2 * FEATURES * number for number in range(len(sent))]
    assert list(answers) == []
    assert desk.ended == {"ok": len(sent)}


def test_what_is_urgent_runs_first_and_is_answered_in_its_turn(
    manifest: Manifest,
) -> None:
    desk = Desk(manifest, max_rows=1)
    desk.server.start()
    with grpc.insecure_channel(f"127.0.0.1:{desk.server.port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        sent = [request(1, steps=3, priority=9), request(2, steps=2), request(3, steps=1, priority=1)]
        answers: Answers = stub.ModelStreamInfer(iter(sent), timeout=SECONDS)
        desk.wait_for_waiting(3)
        desk.house.run_all()

        assert [answer.infer_response.id for answer in answers] == ["1", "2", "3"]
    desk.server.stop(grace_seconds=0)
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


def test_a_cancelled_stream_leaves_no_row_no_slot_no_place_and_no_thread(
    desk: Desk, stub: GRPCInferenceServiceStub
) -> None:
    """Not even with its reader held back by the bound."""
    sent = [request(number) for number in range(OUTSTANDING + 5)]
    answers = stub.ModelStreamInfer(iter(sent), timeout=SECONDS)
    desk.wait_for_waiting(OUTSTANDING)
    readers = [thread for thread in threading.enumerate() if thread.name == "stream-reader"]

    answers.cancel()

    desk.wait_for(lambda: desk.ended["cancelled"] == OUTSTANDING)
    assert desk.house.batcher.live_tickets == 0
    desk.slots.wait_empty(seconds=SECONDS)
    desk.stream_slots.wait_empty(seconds=SECONDS)
    for reader in readers:
        reader.join(SECONDS)
    assert [reader.is_alive() for reader in readers] == [False]
    for _ in range(SLOTS):
        desk.slots.take()  # raises if one were missing
    for _ in range(SLOTS):
        desk.slots.give_back()


def test_a_drain_answers_what_has_been_read_and_refuses_the_rest(desk: Desk, stub: GRPCInferenceServiceStub) -> None:
    """Also what the bound has held back is the client's to send elsewhere."""
    sent: SimpleQueue[oip.ModelInferRequest | None] = SimpleQueue()
    answers: Answers = stub.ModelStreamInfer(iter(sent.get, None), timeout=SECONDS)
    for number in range(3):
        sent.put(request(number))
    desk.wait_for_waiting(3)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(desk.server.stop, grace_seconds=SECONDS)
        desk.house.run_all()
        assert [last_of(next(answers)) for _ in range(3)] == [0, 6, 12]
        sent.put(request(3))
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        stopped.result(SECONDS)

    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "go on with the last state on another replica" in str(ended.value.details())
    sent.put(None)
