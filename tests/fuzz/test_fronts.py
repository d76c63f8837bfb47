"""One contract, two fronts: the same bytes get the same status, message and answer, whichever front they come through."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from tests.fuzz.calls import METHODS, Method, message
from tests.fuzz.kinds import INPUTS, SEED
from tests.fuzz.served import SECONDS, Served, serving, write_models
from tests.support.front import needs_front

MESSAGES = INPUTS // 50
FEW = 200
"""To each of the other methods."""
BRINGS = 3
TIMELY = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
"""What some requests get that bring a `timeout` of microseconds, depending on the time."""
TRAILERS = {"reason", "grpc-retry-pushback-ms", "x-request-id"}
CHANGING = {"ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"}
"""Methods that tell of other calls, or change what they tell."""
METADATA = (("x-request-id", "told back"),)

pytestmark = needs_front


class Fronts(NamedTuple):
    native: Served
    grpcio: Served


class Outcome(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailers: dict[str, str | bytes]
    answers: list[Any]


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    with serving(root, "--wire", "native") as native, serving(root, "--wire", "grpcio") as grpcio:
        yield Fronts(native, grpcio)


def asked(served: Served, path: str, messages: list[bytes]) -> Outcome:
    """Send a call of any kind these messages, and take what comes."""
    call: Any = served.channel.stream_stream(path)(iter(messages), timeout=SECONDS, metadata=METADATA)
    answers: list[bytes] = []
    with suppress(grpc.RpcError):
        answers.extend(call)  # those that come before it ends otherwise are kept
    trailers = {key: value for key, value in call.trailing_metadata() if key in TRAILERS}
    return Outcome(call.code(), call.details(), trailers, answers)


def as_read(outcome: Outcome, kind: Any) -> Outcome:
    """Return it with its answers as messages: the order of a map's entries is nobody's promise."""
    return outcome._replace(answers=[kind.FromString(answer) for answer in outcome.answers])


def tensors_of(outcome: Outcome) -> np.ndarray:
    """Take the tensors out of a stream's answers: in one batch or in two, the last bits may differ."""
    contents = []
    for answer in outcome.answers:
        contents += answer.infer_response.raw_output_contents
        answer.infer_response.ClearField("raw_output_contents")
    return np.frombuffer(b"".join(contents), "<f4")


def test_a_request_gets_the_same_answer_or_refusal(fronts: Fronts) -> None:
    (method,) = (each for each in METHODS if each.name == "ModelInfer")
    met: Counter[grpc.StatusCode] = Counter()
    for number in range(MESSAGES):
        content = message(method, fronts.native.targets, number)
        native, grpcio = (as_read(asked(each, method.path, [content]), oip.ModelInferResponse) for each in fronts)
        if TIMELY.isdisjoint({native.code, grpcio.code}):
            assert native == grpcio, f"FUZZ_SEED={SEED}, number {number}"
        met[native.code] += 1
    assert met[grpc.StatusCode.OK] > MESSAGES / 20
    assert met[grpc.StatusCode.INVALID_ARGUMENT] > MESSAGES / 4


def test_a_stream_gets_the_same_answers_and_end(fronts: Fronts) -> None:
    (method,) = (each for each in METHODS if each.name == "ModelStreamInfer")
    ends: Counter[grpc.StatusCode] = Counter()
    for first in range(0, MESSAGES, BRINGS):
        brought = [message(method, fronts.native.targets, number) for number in range(first, first + BRINGS)]
        native, grpcio = (as_read(asked(each, method.path, brought), oip.ModelStreamInferResponse) for each in fronts)
        if (
            native.code is not grpc.StatusCode.OK
        ):  # which a client may read before the last answers, and then drops those
            came = min(len(native.answers), len(grpcio.answers))
            native, grpcio = (each._replace(answers=each.answers[:came]) for each in (native, grpcio))
        timely = {code.name for code in TIMELY}
        statuses = [
            each.infer_response.parameters["grpc_status"].string_param
            for outcome in (native, grpcio)
            for each in outcome.answers
        ]
        if timely.isdisjoint(statuses):
            tensors = [tensors_of(outcome) for outcome in (native, grpcio)]
            assert native == grpcio, f"FUZZ_SEED={SEED}, numbers {first} on"
            np.testing.assert_allclose(*tensors, rtol=1e-5, atol=1e-6)
        ends[native.code] += 1
    assert ends.keys() == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


@pytest.mark.parametrize(
    "method",
    [each for each in METHODS if each.name not in {"ModelInfer", "ModelStreamInfer", "Watch", *CHANGING}],
    ids=lambda method: method.name,
)
def test_all_other_calls_get_the_same(fronts: Fronts, method: Method) -> None:
    kind = method.answer
    for number in range(FEW):
        content = message(method, fronts.native.targets, number)
        native, grpcio = (as_read(asked(each, method.path, [content]), kind) for each in fronts)
        assert native == grpcio, f"FUZZ_SEED={SEED}, {method.name} number {number}"


PATHS = [method.path for method in METHODS if method.name not in {"Watch", "ServerReflectionInfo"}]
CHANGING_PATHS = [method.path for method in METHODS if method.name in CHANGING]
"""To which two messages would unload a model, or which tell how often they were asked."""
NO_METHODS = [
    "/inference.GRPCInferenceService/Nothing",
    "/inference.GRPCInferenceService/TraceSetting",
    "/inference.Other/ModelInfer",
    "/",
    "/\N{SNOWMAN}".encode().decode("latin-1"),
]


@pytest.mark.parametrize(
    ("path", "messages"),
    [(path, []) for path in (*PATHS, *NO_METHODS)]
    + [(path, [b"", b""]) for path in (*PATHS, *NO_METHODS) if path not in CHANGING_PATHS],
)
def test_calls_without_a_message_or_of_no_method_get_the_same(fronts: Fronts, path: str, messages: list[bytes]) -> None:
    kind = next((method.answer for method in METHODS if method.path == path), oip.ModelInferResponse)
    native, grpcio = (as_read(asked(each, path, messages), kind) for each in fronts)

    assert native == grpcio
