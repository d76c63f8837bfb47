"""What bad input gets, over a real socket: its own status and message; the neighbours and the server never notice."""

from collections.abc import Callable

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import Scrape, infer_together, sequence, tensor
from tests.support.artefacts import FEATURES
from training.local_server import LocalServer

RNG = np.random.default_rng(8)
Request = service_pb2.ModelInferRequest
INFER = "/inference.GRPCInferenceService/ModelInfer"


def good(model: str = "lstm", *, rows: int = 1, steps: int = 3) -> Request:
    """Make a request that is answered."""
    x = sequence(RNG, rows, steps)
    request = Request(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


def changed(edit: Callable[[Request], object], model: str = "lstm") -> Request:
    request = good(model)
    edit(request)
    return request


def reshape(*shape: int) -> Callable[[Request], object]:
    def edit(request: Request) -> None:
        request.inputs[0].ClearField("shape")
        request.inputs[0].shape.extend(shape)

    return edit


def holding(value: float) -> Request:
    x = sequence(RNG, 1, 3)
    x[0, 1, 2] = value
    request = good()
    request.raw_input_contents[0] = x.tobytes()
    return request


def two_inputs_of_different_rows() -> Request:
    request = Request(model_name="two")
    for name, datatype, array in (
        ("tokens", "INT64", np.zeros((2, 3), np.int64)),
        ("x", "FP32", np.zeros((2, 3, FEATURES), np.float32)),
        ("bias", "FP32", np.zeros((1, FEATURES), np.float32)),
    ):
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


INVALID, NOT_FOUND, UNAVAILABLE = "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE"
CASES: dict[str, tuple[Request, str, list[str]]] = {
    "unknown model": (good("nobody"), NOT_FOUND, ["no model 'nobody'", "RepositoryIndex lists"]),
    "unknown version": (changed(lambda r: setattr(r, "model_version", "9")), NOT_FOUND, ["no version '9'", "[1, 2]"]),
    "model refused at load": (good("tampered"), UNAVAILABLE, ["refused at load", "sha256"]),
    "wrong input name": (changed(lambda r: setattr(r.inputs[0], "name", "y")), INVALID, ["unknown input 'y'", "'x'"]),
    "wrong dtype": (changed(lambda r: setattr(r.inputs[0], "datatype", "FP64")), INVALID, ["'x'", "'FP64'", "FP32"]),
    "wrong rank": (changed(reshape(3, 3)), INVALID, ["'x'", "[3, 3]", "[rows, steps, 3]"]),
    "wrong feature size": (changed(reshape(1, 3, 4)), INVALID, ["'x'", "[1, 3, 4]", "[rows, steps, 3]"]),
    "zero length": (changed(reshape(1, 0, 3)), INVALID, ["'x'", "[1, 0, 3]", "nothing in it"]),
    "too long": (good(steps=5000), INVALID, ["5000 steps", "at most 4096", "max_steps"]),
    "too many rows": (good(rows=300), INVALID, ["300 rows", "at most 256", "max_request_rows"]),
    "bytes against shape": (changed(reshape(1, 4, 3)), INVALID, ["'x'", "9 values (36 bytes)", "12 (48 bytes)"]),
    "NaN": (holding(np.nan), INVALID, ["'x' holds nan at [0, 1, 2]", "finite"]),
    "Inf": (holding(np.inf), INVALID, ["'x' holds inf at [0, 1, 2]", "finite"]),
    "rows differ": (two_inputs_of_different_rows(), INVALID, ["differ in rows", "'bias': 1", "'x': 2"]),
    "empty request": (Request(model_name="lstm"), INVALID, ["no inputs", "'x'"]),
    "nothing at all": (Request(), NOT_FOUND, ["no model ''"]),
    "unknown output": (changed(lambda r: r.outputs.add(name="z")), INVALID, ["no output 'z'", "'steps', 'last'"]),
}


@pytest.fixture(scope="module")
def call(server: LocalServer) -> Callable[[Request], service_pb2.ModelInferResponse]:
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(
            INFER,
            request_serializer=Request.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        yield lambda request: method(request, timeout=30)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_request_gets_its_status_and_a_message_that_helps(
    call: Callable[[Request], service_pb2.ModelInferResponse], case: str
) -> None:
    request, status, texts = CASES[case]

    with pytest.raises(grpc.RpcError) as caught:
        call(request)

    assert caught.value.code().name == status
    assert [text for text in texts if text not in caught.value.details()] == []
    assert dict(caught.value.trailing_metadata())["reason"]
    assert call(good()).outputs


@pytest.mark.parametrize("content", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", bytes(range(256))])
def test_bytes_that_are_no_message_end_that_call_only(server: LocalServer, content: bytes) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(content, timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "are no ModelInferRequest" in caught.value.details()
        assert channel.unary_unary(INFER)(good().SerializeToString(), timeout=30)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_requests_are_answered_or_refused_as_invalid(
    call: Callable[[Request], service_pb2.ModelInferResponse], data: st.DataObject
) -> None:
    """Flip, cut or insert bytes in a good message: an answer, INVALID_ARGUMENT, or NOT_FOUND for a changed name."""
    content = bytearray(good().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        request = Request.FromString(bytes(content))
    except DecodeError:  # no message any more; the test above has that case
        return
    try:
        code = call(request) and grpc.StatusCode.OK
    except grpc.RpcError as error:
        code = error.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def test_a_message_above_the_limit_is_refused_and_the_connection_lives(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(bytes(65 * 2**20), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary(INFER)(good().SerializeToString(), timeout=30)


def test_bad_requests_are_counted_by_reason(client: triton.InferenceServerClient, scrape: Scrape) -> None:
    before = scrape("lstm_requests_total", model="causal", outcome="invalid")

    with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
        client.infer("causal", [tensor("x", np.full((1, 2, FEATURES), np.nan, np.float32))])

    assert scrape("lstm_requests_total", model="causal", outcome="invalid") == before + 1


def test_a_name_that_a_client_made_up_is_no_label(client: triton.InferenceServerClient, scrape: Scrape) -> None:
    with pytest.raises(InferenceServerException, match="NOT_FOUND"):
        client.infer("made-up", [tensor("x", sequence(RNG, 1, 2))])

    assert scrape("lstm_requests_total", model="made-up") == 0
    assert scrape("lstm_requests_total", model="", outcome="not_found") > 0


def test_bad_neighbours_do_not_change_good_answers(client: triton.InferenceServerClient) -> None:
    """Good and bad requests in flight at once, round after round: every good answer is the one it gets alone."""
    x = sequence(RNG, 1, 7)
    alone = client.infer("lstm", [tensor("x", x)]).as_numpy("last")
    for _ in range(20):
        good_1, bad_1, bad_2, good_2 = infer_together(
            client, "lstm", [x, np.full_like(x, np.nan), x[:, :, :2].copy(), x]
        )
        for answer in (good_1, good_2):
            np.testing.assert_allclose(answer.as_numpy("last"), alone, rtol=1e-5, atol=1e-6)
        assert [error.status() for error in (bad_1, bad_2)] == ["StatusCode.INVALID_ARGUMENT"] * 2
