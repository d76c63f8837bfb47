"""Everything between a request's bytes and its answer's, in this process and on this thread; only sockets are left out."""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np

from serving._proto import open_inference_pb2 as oip
from serving.engine.choice import EngineChoice
from serving.errors import ServingError
from serving.loader import Loader
from serving.manifest import read_manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.repository import Model, Repository
from serving.wire.inference import Inference
from serving.wire.slots import Slots
from serving.wire.status import MESSAGE_BYTES, STATUS_CODES, message_of
from serving.wire.streams import _failed
from tests.fuzz.good import MOST_ROWS, MOST_STEPS, Target
from tests.runner.house import ManualClock
from tests.support.artefacts import write_ctc, write_lstm, write_two_inputs

if TYPE_CHECKING:
    from serving.runner import Runner
    from serving.wire.call import Call
    from serving.wire.pending import Pending

TICK_NS = 1_000_000
ITEM_BYTES = {"FP32": 4, "INT64": 8, "UINT8": 1}
OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
"""What no client's bytes may cause."""


@dataclass(frozen=True)
class Caller:
    """What a request needs to know of its call, which no bytes of a message can change."""

    client = None
    caller = ""
    request_id = "fuzz"
    deadline_ns: int | None = None

    def is_active(self) -> bool:
        return True


class House:
    """Models of every kind with their real engines, and the way of a request to them.

    Attributes:
        targets: what requests can be made for.
        ended: how many requests the metrics were told of.
    """

    def __init__(self, root: Path) -> None:
        directories = [
            write_lstm(root, "lstm"),
            write_lstm(root, "causal", bidirectional=False, stepwise=True),
            write_lstm(root, "alike", equal_lengths=True),
            write_lstm(root, "clipped", int8_range=(-1.0, 1.0)),
            write_lstm(root, "ranged", int8_range=(-4.0, 4.0)),
            write_two_inputs(root, vocabulary=3),
            write_ctc(root, beam_width=2),
        ]
        self.clock = ManualClock()
        loader = Loader(EngineChoice("onnxruntime", "cpu"), 1, self.clock, ServerMetrics(cpu_threads=1))
        self._runners: dict[str, Runner] = {}
        self.targets: list[Target] = []
        self.ended = 0
        repository = Repository()
        for directory in directories:
            manifest = read_manifest(directory)
            policy = Policy(
                max_request_rows=MOST_ROWS,
                max_steps=MOST_STEPS,
                max_queue_rows=MOST_ROWS,
                max_batch_rows=2,
                out_of_range="refuse" if manifest.name == "ranged" else "clip",
            )
            runner = loader.load(manifest, policy, directory)
            self._runners[manifest.name] = runner
            self.targets.append(Target.of(manifest))
            repository.serve(manifest.name, {1: Model(manifest=manifest, policy=policy, inbox=runner)})
        self._slots = Slots(1, what="requests are in flight", setting="--max-inflight-requests")
        self._inference = Inference(repository=repository, metrics=self, clock=self.clock, slots=self._slots)
        self._calls = (cast("Call", Caller()), cast("Call", Caller(deadline_ns=2**62)))

    def send(self, rng: Random, content: bytes) -> ServingError | None:
        """Bring bytes as far as they come. Every slot is free afterwards, and every queue is empty.

        Returns:
            What the request was refused with; None for one that was answered.

        Raises:
            Exception: anything that is no refusal, which is what this is all for.
        """
        self.clock.ns += TICK_NS
        ended = self.ended
        message: oip.ModelInferRequest | None = None
        replied: list[Pending] = []
        try:
            message = self._inference.parse(content)
            self._inference.begin(message, rng.choice(self._calls), replied.append)
            while any(runner.step() for runner in self._runners.values()):
                pass
            (pending,) = replied
            answer = pending.response()
        except ServingError as error:
            _check_refusal(error, message)
            return error
        finally:
            assert self.ended == ended + 1, "an outcome is counted for each request, and one only"
            assert self._slots._taken == 0
        assert message is not None, "what is answered was asked"
        _check_allowed(message)
        _check_answer(message, answer)
        return None

    def request_ended(
        self, model: str, version: str, outcome: str, seconds: float, *, trace_id: str | None = None
    ) -> None:
        assert (model in self._runners, version, seconds >= 0, trace_id) == (True, "1", True, None)
        assert outcome
        self.ended += 1

    def not_served(self, reason: str) -> None:
        assert reason
        self.ended += 1


def _check_refusal(error: ServingError, message: oip.ModelInferRequest | None) -> None:
    """It is one of those that are the client's to mend, and can be told over both kinds of call."""
    assert STATUS_CODES[type(error)] not in OURS, error
    text = message_of(error)
    assert 0 < len(text.encode()) <= MESSAGE_BYTES
    if message is not None:
        told = oip.ModelStreamInferResponse.FromString(_failed(message, error).SerializeToString())
        assert (told.error_message, told.infer_response.id) == (text, message.id)


def _check_allowed(message: oip.ModelInferRequest) -> None:
    """It asked for nothing that the server does not do, and brought nothing that it must not compute with."""
    names = [tensor.name for tensor in message.inputs]
    assert len(set(names)) == len(names)
    tensors: list[Any] = [*message.inputs, *message.outputs]
    for tensor in tensors:
        assert tensor.parameters.keys().isdisjoint({"shared_memory_region", "classification"})
    for name, largest in (("timeout", 2**53), ("priority", 9)):
        if name in message.parameters:
            parameter = message.parameters[name]
            assert 0 <= (parameter.int64_param or parameter.uint64_param) <= largest
            assert parameter.WhichOneof("parameter_choice") in {"int64_param", "uint64_param"}
    if "lengths" not in names:  # what lies beyond a length is never computed with
        for tensor, content in zip(message.inputs, message.raw_input_contents, strict=False):
            if tensor.datatype == "FP32":
                assert np.isfinite(np.frombuffer(content, "<f4")).all()


def _check_answer(message: oip.ModelInferRequest, answer: oip.ModelInferResponse) -> None:
    """It is whole, and this request's."""
    answer = oip.ModelInferResponse.FromString(answer.SerializeToString())
    assert (answer.id, answer.model_name) == (message.id, message.model_name)
    assert len(answer.outputs) == len(answer.raw_output_contents)
    if message.outputs:
        assert [output.name for output in answer.outputs] == [output.name for output in message.outputs]
    rows = message.inputs[0].shape[0]
    for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert output.shape[0] == rows
        if output.datatype != "BYTES":
            assert len(content) == math.prod(output.shape) * ITEM_BYTES[output.datatype]
