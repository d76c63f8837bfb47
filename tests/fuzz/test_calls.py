"""Ten thousand messages to everything that a real server offers, over a real socket: it minds none of them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.fuzz.calls import METHODS, SPARE, Method, message
from tests.fuzz.kinds import INPUTS, SEED
from tests.fuzz.served import SECONDS, Served

MESSAGES = max(150, INPUTS // 10 // (len(METHODS) + 2))
"""To each method, and three times as many where most is to be got wrong."""
AT_ONCE = 32
BRINGS = 3
"""Messages that one call brings, where it may bring many."""
LOAD = oip.RepositoryModelLoadRequest(model_name=SPARE)
Code = grpc.StatusCode
GOOD_OR_NOT = {Code.OK, Code.INVALID_ARGUMENT}
CODES = {
    "ModelInfer": GOOD_OR_NOT | {Code.NOT_FOUND, Code.FAILED_PRECONDITION},
    **dict.fromkeys(("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"), GOOD_OR_NOT | {Code.NOT_FOUND}),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload", "Check"), GOOD_OR_NOT | {Code.NOT_FOUND}),
}
"""Of each method that knows names; the others tell good messages from those that are none."""
LATE = {Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
"""Of requests for inference, some of which bring a `timeout` of microseconds."""
FEW = 0.01
"""Of a method's messages: good ones, and those that are none, must be more."""


def messages_to(method: Method) -> int:
    return 3 * MESSAGES if method.name == "ModelInfer" else MESSAGES


def codes_of(served: Served, method: Method) -> Iterator[tuple[Code, str]]:
    """Send a method all its messages, one to a call, many calls at a time; each refusal says that it is the server's."""
    call: Any = served.channel.unary_unary(method.path)
    count = messages_to(method)
    for first in range(0, count, AT_ONCE):
        if method.name == "RepositoryModelUnload":
            GRPCInferenceServiceStub(served.channel).RepositoryModelLoad(LOAD, timeout=SECONDS)
        numbers = range(first, min(first + AT_ONCE, count))
        calls = [call.future(message(method, served.targets, number), timeout=SECONDS) for number in numbers]
        for number, each in zip(numbers, calls, strict=True):
            shown = f"FUZZ_SEED={SEED}, {method.name} number {number}: {each.code()} {each.details()}"
            assert each.code() is Code.OK or "reason" in dict(each.trailing_metadata()), shown
            yield each.code(), shown


@pytest.mark.parametrize("method", [each for each in METHODS if not each.answers_on], ids=lambda method: method.name)
def test_a_call_is_answered_or_refused(served: Served, method: Method) -> None:
    expected = CODES.get(method.name, GOOD_OR_NOT)
    inferred = method.name == "ModelInfer"
    invalid = served.invalid()
    met: Counter[Code] = Counter()
    for code, shown in codes_of(served, method):
        assert code in expected | (LATE if inferred else set()), shown
        met[code] += 1

    served.check_unharmed()
    assert [code for code in GOOD_OR_NOT if met[code] < FEW * MESSAGES] == [], met
    assert met.keys() >= expected
    assert served.invalid() - invalid == (met[Code.INVALID_ARGUMENT] if inferred else 0)


def test_a_health_watch_is_told_or_refused(served: Served) -> None:
    (method,) = (each for each in METHODS if each.name == "Watch")
    call: Any = served.channel.unary_stream(method.path)
    met: Counter[Code] = Counter()
    for number in range(MESSAGES):
        watch = call(message(method, served.targets, number), timeout=SECONDS)
        try:
            assert next(watch)
            met[Code.OK] += 1
        except grpc.RpcError:
            met[watch.code()] += 1
        watch.cancel()

    served.check_unharmed()
    assert met.keys() == GOOD_OR_NOT
    assert min(met.values()) > FEW * MESSAGES


@pytest.mark.parametrize("name", ["ModelStreamInfer", "ServerReflectionInfo"])
def test_a_stream_answers_each_message_until_one_is_none(served: Served, name: str) -> None:
    (method,) = (each for each in METHODS if each.name == name)
    call: Any = served.channel.stream_stream(method.path)
    invalid = served.invalid()
    met: Counter[Code] = Counter()
    answers: list[bytes] = []
    for first in range(0, MESSAGES, BRINGS):
        brought = [message(method, served.targets, number) for number in range(first, first + BRINGS)]
        stream = call(iter(brought), timeout=SECONDS)
        before = len(answers)
        try:
            answers.extend(stream)  # those that come before it ends otherwise are kept
            assert len(answers) - before == BRINGS
        except grpc.RpcError:
            assert stream.code() is Code.INVALID_ARGUMENT, f"FUZZ_SEED={SEED}, {name} numbers {first} on: {stream}"
        met[stream.code()] += 1

    served.check_unharmed()
    assert met.keys() == GOOD_OR_NOT
    assert min(met.values()) > FEW * MESSAGES / BRINGS
    if name == "ModelStreamInfer":
        outcomes = Counter(map(outcome, answers))
        assert outcomes.keys() - {code.name for code in LATE} == {code.name for code in CODES["ModelInfer"]}
        assert served.invalid() - invalid == outcomes["INVALID_ARGUMENT"] + met[Code.INVALID_ARGUMENT]


def outcome(answer: bytes) -> str:
    told = oip.ModelStreamInferResponse.FromString(answer)
    return told.infer_response.parameters["grpc_status"].string_param if told.error_message else Code.OK.name
