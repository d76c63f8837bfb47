"""Replicas that go under streams, or are killed all at once, behind a real Envoy: each step is answered once, and rightly."""

import queue
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.socket.conftest import sequence
from tests.socket.replicas import REPLICAS, Replicas, envoy
from tests.socket.storm import Storm, example, expectations
from tests.socket.test_overload import until
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 4
STREAMS = 4
STEPS = 3
"""Of each piece of a stream."""
SECONDS = 60
Stub = service_pb2_grpc.GRPCInferenceServiceStub


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    write_lstm(tmp_path / "models", "lstm")
    write_lstm(tmp_path / "models", "causal", bidirectional=False, stepwise=True)
    (tmp_path / "models" / "causal" / "model.yaml").write_text("max_steps: 1000000\n")
    with Replicas(tmp_path / "models") as made:
        yield made


class Streamer:
    """A client that sends a sequence piece by piece over one stream, and goes on from its last state when that breaks.

    Attributes:
        outputs: of every step that was answered, in order.
        inputs: of the same steps.
        broken: streams that broke, by status, and by whether a server told the reason.
    """

    def __init__(self, address: str, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._state = b""
        self.inputs: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        self.broken: Counter[tuple[str, bool]] = Counter()

    def run(self, over: threading.Event) -> None:
        """Send pieces, each once the one before is answered, until it is over."""
        with self._channel:
            piece = self._piece()
            while not over.is_set():
                requests: queue.SimpleQueue[service_pb2.ModelInferRequest | None] = queue.SimpleQueue()
                stream = Stub(self._channel).ModelStreamInfer(iter(requests.get, None), timeout=SECONDS)
                try:
                    while not over.is_set():
                        requests.put(self._request(piece))
                        self._take(piece, next(stream))
                        piece = self._piece()
                except grpc.RpcError as error:
                    told = "reason" in dict(error.trailing_metadata() or ())
                    self.broken[error.code().name, told] += 1
                finally:
                    requests.put(None)

    def _piece(self) -> np.ndarray:
        return sequence(self._rng, 1, STEPS)

    def _request(self, x: np.ndarray) -> service_pb2.ModelInferRequest:
        request = service_pb2.ModelInferRequest(model_name="causal", raw_input_contents=[x.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        if self._state:
            request.inputs.add(name="state", datatype="UINT8", shape=[1, len(self._state)])
            request.raw_input_contents.append(self._state)
        return request

    def _take(self, x: np.ndarray, answer: service_pb2.ModelStreamInferResponse) -> None:
        assert not answer.error_message, answer.error_message
        response = answer.infer_response
        contents = dict(zip((out.name for out in response.outputs), response.raw_output_contents, strict=True))
        self._state = contents["state"]
        self.inputs.append(x)
        self.outputs.append(np.frombuffer(contents["steps"], np.float32).reshape(1, STEPS, -1))


def kill(server: LocalServer) -> None:
    server.process.kill()
    assert server.stop() == -signal.SIGKILL


def drain(server: LocalServer) -> None:
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("end", "ends"),
    [
        (kill, {("UNAVAILABLE", False), ("INTERNAL", False)}),  # the latter when Envoy resets it
        (drain, {("UNAVAILABLE", True)}),
    ],
    ids=["killed", "drained"],
)
def test_streams_go_on_from_their_last_state_when_their_replica_goes(
    replicas: Replicas, tmp_path: Path, end: Callable[[LocalServer], None], ends: set[tuple[str, bool]]
) -> None:
    """The pieces of each stream, whichever replicas answered them, are those of the sequence in one piece."""
    over = threading.Event()
    with envoy(replicas, tmp_path) as proxy:
        streamers = [Streamer(proxy.address, seed) for seed in range(STREAMS)]
        threads = [threading.Thread(target=streamer.run, args=(over,)) for streamer in streamers]
        for thread in threads:
            thread.start()
        try:
            for index in range(REPLICAS):
                until(all_answered_more(streamers, 20))
                end(replicas.servers[index])
                until(all_answered_more(streamers, 20))
                replicas.start(index)
            until(all_answered_more(streamers, 20))
        finally:
            over.set()
            for thread in threads:
                thread.join()

        broken = sum((streamer.broken for streamer in streamers), Counter())
        assert broken.keys() <= ends
        assert sum(broken.values()) >= REPLICAS - 1
        with grpc.insecure_channel(proxy.address) as channel:
            for streamer in streamers:
                whole = np.concatenate(streamer.inputs, axis=1)
                request = service_pb2.ModelInferRequest(model_name="causal", raw_input_contents=[whole.tobytes()])
                request.inputs.add(name="x", datatype="FP32", shape=whole.shape)
                request.outputs.add(name="steps")
                answer = Stub(channel).ModelInfer(request, timeout=SECONDS)
                alone = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, whole.shape[1], -1)
                np.testing.assert_allclose(np.concatenate(streamer.outputs, axis=1), alone, rtol=1e-4, atol=1e-5)


def all_answered_more(streamers: list[Streamer], count: int) -> Callable[[], bool]:
    """Return a question whether each stream has got so many answers more than it has now."""
    goals = [len(streamer.outputs) + count for streamer in streamers]
    return lambda: all(len(streamer.outputs) >= goal for streamer, goal in zip(streamers, goals, strict=True))


def test_when_every_replica_is_killed_callers_are_told_to_retry_until_one_is_back(
    replicas: Replicas, tmp_path: Path
) -> None:
    with envoy(replicas, tmp_path) as proxy:
        with triton.InferenceServerClient(proxy.address) as client:
            expected = expectations(client, "lstm", X, "1")
        with Storm(proxy.address, "lstm", expected, X, CALLERS) as storm:
            storm.until_more(50)
            for server in replicas.servers:
                server.process.kill()
            storm.until(lambda: sum(storm.failed.values()) > 20)
            before = storm.answered["1"]
            replicas.servers[0].stop()
            replicas.start(0)
            storm.until(lambda: storm.answered["1"] > before + 50)

    assert not storm.wrong
    assert {text.split()[0] for text in storm.failed} == {"StatusCode.UNAVAILABLE"}
