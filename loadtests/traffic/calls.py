"""One request to the server and what came of it, over either call of the protocol. For a process that gevent runs."""

from dataclasses import dataclass

import grpc
from gevent.queue import SimpleQueue

from loadtests.traffic.expected import joined, verdict_of
from loadtests.traffic.records import OK, STATUS_NAMES, UNCHECKED
from loadtests.traffic.samples import Sample
from loadtests.traffic.served import OPTIONS, metadata_of
from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.status.target import Target
from serving.wire.status import PUSHBACK_KEY, REASON_KEY

MILLISECONDS = 1000.0
STATUS_NUMBERS = {status.name: int(status.value[0]) for status in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one try.

    Attributes:
        status: gRPC's number.
        reason: the server's word for it; empty if it gave none.
        pushback: seconds after which the server would have it sent again; None if it did not say.
        verdict: on the answer, as `records` has it.
        size: bytes of the answer's tensors.
    """

    status: int
    reason: str = ""
    pushback: float | None = None
    verdict: int = UNCHECKED
    size: int = 0


class Caller:
    """A connection to a server."""

    def __init__(self, target: Target, piece_steps: int) -> None:
        """Prepare it.

        Args:
            target: the server.
            piece_steps: steps of a stream's messages.
        """
        self._channel = grpc.insecure_channel(target.address, OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._metadata = metadata_of(target)
        self._piece_steps = piece_steps

    def close(self) -> None:
        """Disconnect; calls that are out end as cancelled."""
        self._channel.close()

    def infer(self, sample: Sample, seconds: float) -> Outcome:
        """Ask for a sequence by one call, which may take so long."""
        call = self._stub.ModelInfer.future(sample.request, timeout=seconds, metadata=self._metadata)
        try:
            error = call.exception()
        except BaseException:  # the greenlet is killed: nobody waits for the answer any more
            call.cancel()
            raise
        return _failed(call) if error is not None else _answered(sample, call.result())

    def stream(self, sample: Sample, seconds: float) -> Outcome:
        """Ask for a sequence piece by piece over a stream, which may take so long; each piece brings the last state."""
        questions: SimpleQueue[oip.ModelInferRequest | None] = SimpleQueue()
        call = self._stub.ModelStreamInfer(iter(questions.get, None), timeout=seconds, metadata=self._metadata)
        answers: list[oip.ModelInferResponse] = []
        try:
            for piece in sample.pieces(self._piece_steps):
                if answers:
                    _carry(sample.state, answers[-1], piece)
                questions.put(piece)
                told = next(call)
                if told.error_message:
                    return _told(told)
                answers.append(told.infer_response)
            questions.put(None)
            for _ in call:
                return Outcome(status=STATUS_NUMBERS["UNKNOWN"], reason="too_many_answers")
        except StopIteration:
            return Outcome(status=STATUS_NUMBERS["UNKNOWN"], reason="too_few_answers")
        except grpc.RpcError:
            return _failed(call)
        finally:
            questions.put(None)
            call.cancel()
        whole = answers[-1] if sample.answer is None else joined(answers, sample.answer)
        return _answered(sample, whole)


def _answered(sample: Sample, answer: oip.ModelInferResponse) -> Outcome:
    size = sum(map(len, answer.raw_output_contents))
    return Outcome(status=OK, verdict=verdict_of(answer, sample.answer, state=sample.state), size=size)


def _failed(call: grpc.Call) -> Outcome:
    trailing = {key: value for key, value in call.trailing_metadata() or () if isinstance(value, str)}
    pushback = trailing.get(PUSHBACK_KEY, "")
    return Outcome(
        status=int(call.code().value[0]),
        reason=trailing.get(REASON_KEY, ""),
        pushback=int(pushback) / MILLISECONDS if pushback.isdecimal() else None,
    )


def _told(answer: oip.ModelStreamInferResponse) -> Outcome:
    """Return what a stream says of a request that failed."""
    parameters = answer.infer_response.parameters
    status = parameters["grpc_status"].string_param if "grpc_status" in parameters else "UNKNOWN"
    return Outcome(
        status=STATUS_NUMBERS.get(status, STATUS_NUMBERS["UNKNOWN"]),
        reason=parameters["reason"].string_param if "reason" in parameters else "",
        pushback=parameters["retry_after_ms"].int64_param / MILLISECONDS if "retry_after_ms" in parameters else None,
    )


def _carry(state: str, answer: oip.ModelInferResponse, piece: oip.ModelInferRequest) -> None:
    """Put the state that an answer brought into the next piece."""
    for place, output in enumerate(answer.outputs):
        if output.name == state:
            piece.inputs.add(name=state, datatype=output.datatype, shape=output.shape)
            piece.raw_input_contents.append(answer.raw_output_contents[place])


def words_of(outcome: Outcome) -> str:
    """Return an outcome's status and its reason, if there is one."""
    return f"{STATUS_NAMES[outcome.status]} {outcome.reason}".strip()
