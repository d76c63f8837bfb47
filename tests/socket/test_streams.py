"""ModelStreamInfer: many requests over one call, in order, each with its own fate."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.socket.conftest import Scrape, read_metric, sequence, tensor
from training.local_server import LocalServer

LONG = sequence(np.random.default_rng(3), 1, 50_000)
SHORT = LONG[:, :2].copy()
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


def request(
    x: np.ndarray, *, model: str = "causal", number: int = 0, **parameters: int
) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=model, id=str(number), raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    made.outputs.add(name="last")
    for name, value in parameters.items():
        made.parameters[name].int64_param = value
    return made


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again until the condition holds; fail after a minute."""
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "the condition never came true"


@pytest.fixture
def channel(server: LocalServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as connected:
        yield connected


@pytest.fixture
def stub(channel: grpc.Channel) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


class Feed:
    """The client's side of a stream: what it sends, one by one, until it is closed."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[service_pb2.ModelInferRequest | None] = queue.SimpleQueue()

    def send(self, message: service_pb2.ModelInferRequest) -> None:
        self._messages.put(message)

    def close(self) -> None:
        self._messages.put(None)

    def __iter__(self) -> Iterator[service_pb2.ModelInferRequest]:
        return iter(self._messages.get, None)


def test_tritonclients_stream_gets_an_answer_per_request_in_order(client: triton.InferenceServerClient) -> None:
    """Two hundred requests of many lengths, sent without waiting."""
    rng = np.random.default_rng(1)
    inputs = [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 40, 200)]
    expected = [client.infer("causal", [tensor("x", x)]).as_numpy("last") for x in inputs]
    answers: queue.SimpleQueue[tuple[triton.InferResult, Exception | None]] = queue.SimpleQueue()

    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, x in enumerate(inputs):
        client.async_stream_infer("causal", [tensor("x", x)], request_id=str(number))
    got = [answers.get(timeout=60) for _ in inputs]
    client.stop_stream()

    assert [error for _, error in got if error is not None] == []
    assert [result.get_response().id for result, _ in got] == [str(number) for number in range(len(inputs))]
    for (result, _), last in zip(got, expected, strict=True):
        np.testing.assert_allclose(result.as_numpy("last"), last, rtol=1e-5, atol=1e-6)


def test_requests_of_one_stream_share_engine_calls(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, scrape: Scrape
) -> None:
    calls_before = scrape("lstm_batch_rows_count", model="causal")
    sent = [request(SHORT, number=number) for number in range(400)]

    answers = list(stub.ModelStreamInfer(iter(sent), timeout=60))

    assert len(answers) == 400
    assert scrape("lstm_batch_rows_count", model="causal") - calls_before < 400


def test_a_bad_request_fails_alone_and_the_stream_goes_on(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    bad = SHORT.copy()
    bad[0, 1, 2] = np.inf
    sent = [
        request(SHORT, number=0),
        request(bad, number=1),
        request(SHORT, model="nobody", number=2),
        request(SHORT, number=3, timeout=1),
        request(SHORT, number=4, priority=10),
        request(SHORT, number=5, priority=1),
    ]

    answers = list(stub.ModelStreamInfer(iter(sent), timeout=60))

    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3", "4", "5"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, True, True, False]
    assert "expected finite numbers" in answers[1].error_message
    facts = [answer.infer_response.parameters for answer in answers]
    assert [fact["grpc_status"].string_param for fact in facts[1:5]] == [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "DEADLINE_EXCEEDED",
        "INVALID_ARGUMENT",
    ]
    assert [fact["reason"].string_param for fact in facts[1:4]] == ["invalid", "not_found", "deadline"]


def test_a_carried_state_goes_through_a_stream(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    """Each message waits for the state that came with the answer before."""
    x = sequence(np.random.default_rng(2), 1, 30)
    feed = Feed()
    answers = stub.ModelStreamInfer(iter(feed), timeout=60)
    last = None
    for start in range(0, 30, 6):
        message = request(x[:, start : start + 6].copy())
        message.outputs.add(name="state")
        if last is not None:
            message.inputs.add(name="state", datatype="UINT8", shape=last.outputs[1].shape)
            message.raw_input_contents.append(last.raw_output_contents[1])
        feed.send(message)
        last = next(answers).infer_response
    feed.close()

    (whole,) = stub.ModelStreamInfer(iter([request(x)]), timeout=60)
    assert last is not None
    np.testing.assert_allclose(
        np.frombuffer(last.raw_output_contents[0], "<f4"),
        np.frombuffer(whole.infer_response.raw_output_contents[0], "<f4"),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_cancelled_stream_takes_its_requests_back(
    server: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    """What waits leaves the queue, and the slots are free again."""
    feed = Feed()
    answers = stub.ModelStreamInfer(iter(feed), timeout=120)
    feed.send(request(LONG, model="tight"))
    until(lambda: read_metric(server, "lstm_running_rows", model="tight") == 1)
    feed.send(request(LONG, model="tight"))
    until(lambda: read_metric(server, "lstm_queue_rows", model="tight") == 1)

    answers.cancel()

    until(lambda: read_metric(server, "lstm_queue_rows", model="tight") == 0)
    feed.close()
    assert stub.ModelInfer(request(SHORT, model="tight"), timeout=120).outputs[0].name == "last"


def test_bytes_that_are_no_request_end_the_stream_as_the_clients_mistake(channel: grpc.Channel) -> None:
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_METHOD)
    good = request(SHORT).SerializeToString()
    answers = call(iter([good, b"\xff\xff\xff", good]), timeout=60)

    assert next(answers)
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "are no ModelInferRequest" in str(ended.value.details())


def test_streams_beyond_the_limit_are_refused_while_unary_calls_go_on(repository: object) -> None:
    with (
        LocalServer(repository, "--max-streams", "1") as small,  # type: ignore[arg-type]
        grpc.insecure_channel(small.address) as connected,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(connected)
        feed = Feed()
        first = stub.ModelStreamInfer(iter(feed), timeout=60)
        feed.send(request(SHORT))
        assert next(first).infer_response.id == "0"

        with pytest.raises(grpc.RpcError) as refused:
            next(stub.ModelStreamInfer(iter([request(SHORT)]), timeout=60))

        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 streams are open already" in str(refused.value.details())
        assert stub.ModelInfer(request(SHORT), timeout=60).outputs[0].name == "last"
        feed.close()
        assert list(first) == []


def test_a_drain_answers_what_a_stream_has_sent_and_then_ends_it(repository: object) -> None:
    """An idle stream does not hold up the drain, and is told to go elsewhere."""
    with LocalServer(repository) as stopping, grpc.insecure_channel(stopping.address) as connected:  # type: ignore[arg-type]
        stub = service_pb2_grpc.GRPCInferenceServiceStub(connected)
        busy, idle = Feed(), Feed()
        working = stub.ModelStreamInfer(iter(busy), timeout=120)
        waiting = stub.ModelStreamInfer(iter(idle), timeout=120)
        idle.send(request(SHORT))
        assert next(waiting).infer_response.id == "0"
        busy.send(request(LONG, model="tight", number=7))
        until(lambda: read_metric(stopping, "lstm_running_rows", model="tight") == 1)
        codes: queue.SimpleQueue[object] = queue.SimpleQueue()

        def watch() -> None:
            try:
                list(waiting)
            except grpc.RpcError as ended:
                codes.put(ended.code())

        watcher = threading.Thread(target=watch)
        watcher.start()
        stopping.process.send_signal(signal.SIGTERM)

        assert next(working).infer_response.id == "7"
        with pytest.raises(grpc.RpcError) as ended:
            next(working)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        watcher.join(60)
        assert codes.get(timeout=60) is grpc.StatusCode.UNAVAILABLE
        assert stopping.stop() == 0


def test_many_streams_at_once_lose_and_swap_nothing(server: LocalServer) -> None:
    """Eight streams of 120 requests whose answers tell them apart: as many under way as the server takes in all."""
    rng = np.random.default_rng(9)
    pool = [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 30, 32)]
    with grpc.insecure_channel(server.address) as connected:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(connected)
        alone = [stub.ModelInfer(request(x), timeout=60).raw_output_contents[0] for x in pool]
        worst: queue.SimpleQueue[float] = queue.SimpleQueue()

        def run(seed: int) -> None:
            chosen = [int(n) for n in np.random.default_rng(seed).integers(0, len(pool), 120)]
            sent = (request(pool[n], number=position) for position, n in enumerate(chosen))
            answers = list(stub.ModelStreamInfer(sent, timeout=60))
            assert [answer.infer_response.id for answer in answers] == [str(position) for position in range(120)]
            for n, answer in zip(chosen, answers, strict=True):
                got = np.frombuffer(answer.infer_response.raw_output_contents[0], "<f4")
                worst.put(float(np.abs(got - np.frombuffer(alone[n], "<f4")).max()))

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)

    differences = [worst.get_nowait() for _ in range(8 * 120)]
    assert max(differences) <= 1e-5
