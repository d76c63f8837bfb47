"""Ten thousand messages to everything that a real server offers, over a real socket: it minds none of them."""

import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.manifest import read_manifest
from tests.fuzz.calls import METHODS, MODEL, SPARE, Method, message
from tests.fuzz.good import Target
from tests.fuzz.kinds import INPUTS, SEED
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs
from training.local_server import LocalServer

SECONDS = 60
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


class Served:
    """A server, and what it must answer whatever has been sent to it."""

    def __init__(self, root: Path, server: LocalServer, channel: grpc.Channel) -> None:
        self.targets = [Target.of(read_manifest(root / name / "1")) for name in (MODEL, "causal", "two")]
        self.server = server
        self.channel = channel
        self.codes: dict[str, Counter[Code]] = {}
        x = np.random.default_rng(3).normal(size=(2, 7, FEATURES)).astype("<f4")
        session = onnxruntime.InferenceSession(root / MODEL / "1" / "model.onnx")
        (self._expected,) = session.run(["last"], {"x": x, "lengths": np.array([7, 7])})
        self._request = oip.ModelInferRequest(model_name=MODEL, raw_input_contents=[x.tobytes()])
        self._request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        self._request.outputs.add(name="last")

    def check_unharmed(self) -> None:
        """See that it is the process that it was, answers as it did, and has written of no fault."""
        answer = GRPCInferenceServiceStub(self.channel).ModelInfer(self._request, timeout=SECONDS)
        last = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(self._expected.shape)
        np.testing.assert_allclose(last, self._expected, rtol=1e-5, atol=1e-6)
        assert self.server.process.poll() is None
        assert [line for line in self.server.log if " INFO " not in line] == []

    def invalid(self) -> float:
        """Return how many requests the metrics have as invalid."""
        with urllib.request.urlopen(self.server.metrics_url, timeout=SECONDS) as page:  # noqa: S310  loopback
            families = list(text_string_to_metric_families(page.read().decode()))
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == "lstm_requests_total" and s.labels["outcome"] == "invalid")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, MODEL)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_two_inputs(root, vocabulary=3)
    write_lstm(root, SPARE)
    flags = [flag for name in (MODEL, "causal", "two", SPARE) for flag in ("--load-model", name)]
    with (
        LocalServer(root, "--model-control", "explicit", *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Served(root, server, channel)
    assert server.process.returncode == 0, "".join(server.log)


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
