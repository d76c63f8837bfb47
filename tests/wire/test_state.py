"""The carried state on the wire: what comes back is what was sent out, and nothing else is taken for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest, StateMismatch
from serving.manifest import Manifest, read_manifest
from serving.policy import Policy
from serving.wire.codec import Decoder
from serving.wire.outputs import Offer
from tests.support.artefacts import FEATURES, HIDDEN, write_lstm
from tests.wire.desk import SECONDS, Desk

POLICY = Policy.model_validate({})
SIZE = 2 * HIDDEN
WIDTH = 16 + 4 * SIZE


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("models")
    return read_manifest(write_lstm(root, bidirectional=False, stepwise=True))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("models")
    return read_manifest(write_lstm(root, version=2, seed=2, bidirectional=False, stepwise=True))


def token_of(manifest: Manifest, states: np.ndarray, *, width: int = WIDTH) -> bytes:
    """Return the bytes that an answer with these states carries."""
    offer = Offer(manifest)
    asked = oip.ModelInferRequest()
    asked.outputs.add(name="state")
    response = offer.encode(asked, offer.requested(asked), {"next_state": states}, {})
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("state", "UINT8", [len(states), width])
    return response.raw_output_contents[0]


def request_with(
    content: bytes, *, rows: int, shape: list[int] | None = None, datatype: str = "UINT8"
) -> oip.ModelInferRequest:
    x = np.ones((rows, 2, FEATURES), "<f4")
    request = oip.ModelInferRequest(raw_input_contents=[x.tobytes(), content])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.inputs.add(name="state", datatype=datatype, shape=[rows, WIDTH] if shape is None else shape)
    return request


@given(rows=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_state_comes_back_bit_for_bit(manifest: Manifest, rows: int, seed: int) -> None:
    states = np.random.default_rng(seed).normal(size=(rows, SIZE)).astype(np.float32)

    decoded = Decoder(manifest, POLICY).decode(request_with(token_of(manifest, states), rows=rows))

    assert decoded.state is not None
    assert decoded.state.tobytes() == states.tobytes()
    assert list(decoded.inputs) == ["x"]


def test_without_a_state_a_row_starts_from_none(manifest: Manifest) -> None:
    request = request_with(b"", rows=1)
    del request.inputs[1], request.raw_input_contents[1]

    assert Decoder(manifest, POLICY).decode(request).state is None


def test_the_state_is_an_output_like_the_others_but_no_input_that_must_come(manifest: Manifest) -> None:
    assert [output.name for output in Offer(manifest).requested(oip.ModelInferRequest())] == ["steps", "last", "state"]


def test_a_property_names_the_input_that_metadata_does_not_list(manifest: Manifest) -> None:
    with Desk(manifest) as desk:
        metadata = desk.stub.ModelMetadata(oip.ModelMetadataRequest(name="lstm"), timeout=SECONDS)

    assert metadata.properties["state_input"] == "state"
    assert [given.name for given in metadata.inputs] == ["x"]
    assert [(output.name, output.datatype, list(output.shape)) for output in metadata.outputs][-1] == (
        "state",
        "UINT8",
        [-1, WIDTH],
    )


def test_the_state_of_another_version_is_refused_as_such(manifest: Manifest, other: Manifest) -> None:
    """Also if only one of the rows is."""
    states = np.zeros((1, SIZE), np.float32)
    mixed = token_of(manifest, states) + token_of(other, states)

    for request in (request_with(token_of(other, states), rows=1), request_with(mixed, rows=2)):
        with pytest.raises(StateMismatch, match=r"does not come from model 'lstm' version 1: begin the stream again"):
            Decoder(manifest, POLICY).decode(request)


def test_the_state_of_a_version_of_another_size_is_refused_as_such(
    manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is the client's stream that must begin again, not the client's code that must change."""
    root = tmp_path_factory.mktemp("models")
    larger = read_manifest(write_lstm(root, hidden=2 * HIDDEN, bidirectional=False, stepwise=True))
    content = token_of(larger, np.zeros((1, 2 * SIZE), np.float32), width=16 + 8 * SIZE)

    with pytest.raises(StateMismatch, match="begin the stream again"):
        Decoder(manifest, POLICY).decode(request_with(content, rows=1, shape=[1, len(content)]))


def typed(token: bytes) -> oip.ModelInferRequest:
    request = request_with(token, rows=1)
    request.inputs[0].contents.fp32_contents.extend([1.0] * 2 * FEATURES)
    request.inputs[1].contents.uint_contents.extend(token)
    request.ClearField("raw_input_contents")
    return request


def raw_and_typed(token: bytes) -> oip.ModelInferRequest:
    request = request_with(token, rows=1)
    request.inputs[1].contents.uint_contents.extend(token)
    return request


def in_shared_memory(token: bytes) -> oip.ModelInferRequest:
    request = request_with(token, rows=1)
    request.inputs[1].parameters["shared_memory_region"].string_param = "r"
    return request


GARBAGE: dict[str, tuple[Callable[[bytes], oip.ModelInferRequest], str]] = {
    "another datatype": (lambda token: request_with(token, rows=1, datatype="FP32"), "is FP32 .* expected UINT8"),
    "another rank": (lambda token: request_with(token, rows=1, shape=[WIDTH]), rf"expected UINT8 \[rows, {WIDTH}\]"),
    "another width": (lambda token: request_with(token[:-4], rows=1, shape=[1, WIDTH - 4]), "the bytes that came with"),
    "too few bytes": (lambda token: request_with(token[:-1], rows=1), f"has {WIDTH - 1} bytes; .* needs {WIDTH}"),
    "no rows": (lambda token: request_with(token[:0], rows=1, shape=[0, WIDTH]), r"is UINT8 \[0, \d+\]; expected"),
    "narrower than a name": (lambda token: request_with(token[:8], rows=1, shape=[1, 8]), "the bytes that came with"),
    "enormous shape": (lambda token: request_with(token, rows=1, shape=[2**62, 2**62]), f"has {WIDTH} bytes; its"),
    "typed contents": (typed, "'state' has typed contents; send all inputs as raw_input_contents"),
    "raw and typed": (raw_and_typed, "'state' has typed contents; send all inputs as raw_input_contents"),
    "shared memory": (in_shared_memory, "'state': parameter 'shared_memory_region' is not supported"),
    "another number of rows": (
        lambda token: request_with(token * 2, rows=1, shape=[2, WIDTH]),
        "has 2 rows; expected 1",
    ),
    "NaN": (lambda token: request_with(token[:16] + b"\xff" * 4 * SIZE, rows=1), "values that are not finite"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_state_is_refused_with_what_was_expected(manifest: Manifest, name: str) -> None:
    make, message = GARBAGE[name]
    token = token_of(manifest, np.zeros((1, SIZE), np.float32))
    Decoder(manifest, POLICY).decode(request_with(token, rows=1))

    with pytest.raises(InvalidRequest, match=message):
        Decoder(manifest, POLICY).decode(make(token))


def test_a_model_that_is_not_stepwise_says_so(tmp_path: Path) -> None:
    whole = read_manifest(write_lstm(tmp_path))

    with pytest.raises(InvalidRequest, match="cannot go on from a state: it is not stepwise"):
        Decoder(whole, POLICY).decode(request_with(b"\0" * WIDTH, rows=1))


@given(content=st.binary(max_size=3 * WIDTH), rows=st.integers(0, 3), width=st.integers(0, WIDTH + 1))
@settings(deadline=None)
def test_any_bytes_are_taken_or_refused(manifest: Manifest, content: bytes, rows: int, width: int) -> None:
    """Whatever a client makes up, the error is one of the two that it can read."""
    with pytest.raises((InvalidRequest, StateMismatch)):
        Decoder(manifest, POLICY).decode(request_with(content, rows=1, shape=[rows, width]))
