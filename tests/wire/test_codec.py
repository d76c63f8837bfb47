"""Messages to rows: both forms of contents mean the same, and nothing malformed gets in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.manifest import Manifest, read_manifest
from serving.policy import Policy
from serving.wire.codec import Decoder, check_finite
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs

POLICY = Policy(max_request_rows=8, max_steps=16)
Edit = Callable[[oip.ModelInferRequest], object]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_two_inputs(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), int8_range=(-1.0, 2.0)))


def message(rows: int = 2, steps: int = 3, *, raw: bool = True, seed: int = 0) -> oip.ModelInferRequest:
    """Make a good request for the two-input model."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 100, (rows, steps))
    x = rng.normal(size=(rows, steps, FEATURES)).astype("<f4")
    bias = rng.normal(size=(rows, FEATURES)).astype("<f4")
    request = oip.ModelInferRequest(model_name="two", id="r1")
    for name, datatype, array in (("tokens", "INT64", tokens), ("x", "FP32", x), ("bias", "FP32", bias)):
        sent = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(array.tobytes())
        elif datatype == "FP32":
            sent.contents.fp32_contents.extend(array.ravel().tolist())
        else:
            sent.contents.int64_contents.extend(array.ravel().tolist())
    return request


def with_lengths(request: oip.ModelInferRequest, lengths: list[int]) -> oip.ModelInferRequest:
    request.inputs.add(name="lengths", datatype="INT64", shape=[len(lengths)])
    request.raw_input_contents.append(np.array(lengths, "<i8").tobytes())
    return request


@given(rows=st.integers(1, 8), steps=st.integers(1, 16), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_raw_and_typed_contents_decode_to_the_same_rows(two: Manifest, rows: int, steps: int, seed: int) -> None:
    raw = Decoder(two, POLICY).decode(message(rows, steps, raw=True, seed=seed))
    typed = Decoder(two, POLICY).decode(message(rows, steps, raw=False, seed=seed))

    assert raw.inputs.keys() == typed.inputs.keys() == {"tokens", "x", "bias"}
    for name, array in raw.inputs.items():
        np.testing.assert_array_equal(array, typed.inputs[name])
        assert array.dtype == typed.inputs[name].dtype
    assert (raw.rows, raw.time) == (rows, steps)


def test_lengths_of_the_client_shorten_rows_and_blank_what_lies_beyond(two: Manifest) -> None:
    """Whatever stands beyond a row's length, even NaN, is zero from here on."""
    request = with_lengths(message(2, 3), [3, 1])
    x = np.frombuffer(request.raw_input_contents[1], "<f4").reshape(2, 3, FEATURES).copy()
    x[1, 1:] = np.nan
    request.raw_input_contents[1] = x.tobytes()

    rows = Decoder(two, POLICY).decode(request)

    assert rows.lengths.tolist() == [3, 1]
    np.testing.assert_array_equal(rows.inputs["x"][1], [x[1, 0], [0] * FEATURES, [0] * FEATURES])


def set_input(index: int, **fields: object) -> Edit:
    def edit(request: oip.ModelInferRequest) -> None:
        for name, value in fields.items():
            if name == "shape":
                request.inputs[index].ClearField("shape")
                request.inputs[index].shape.extend(value)  # type: ignore[arg-type]
            else:
                setattr(request.inputs[index], name, value)

    return edit


def set_raw(index: int, content: bytes) -> Edit:
    def edit(request: oip.ModelInferRequest) -> None:
        request.raw_input_contents[index] = content

    return edit


def poke(value: float) -> Edit:
    def edit(request: oip.ModelInferRequest) -> None:
        x = np.frombuffer(request.raw_input_contents[1], "<f4").copy()
        x[4] = value
        request.raw_input_contents[1] = x.tobytes()

    return edit


def typed_in_the_wrong_field(request: oip.ModelInferRequest) -> None:
    request.ClearField("raw_input_contents")
    request.inputs[0].contents.int_contents.extend([1] * 6)


BAD: dict[str, tuple[Edit, str]] = {
    "no inputs": (
        lambda r: r.ClearField("inputs"),
        "the request has no inputs; model 'two' takes 'tokens', 'x', 'bias'",
    ),
    "unknown input": (set_input(1, name="X"), "unknown input 'X'"),
    "missing input": (lambda r: r.inputs.pop(), "input 'bias' is missing"),
    "input twice": (set_input(2, name="x"), "input 'x' was sent 2 times"),
    "datatype": (set_input(0, datatype="INT32"), "input 'tokens' has datatype 'INT32'; expected INT64"),
    "rank": (set_input(1, shape=[2, 9]), r"input 'x' has shape \[2, 9\] of rank 2; expected \[rows, steps, 3\]"),
    "feature size": (set_input(1, shape=[2, 3, 4]), r"input 'x' has shape \[2, 3, 4\]; expected \[rows, steps, 3\]"),
    "zero length": (set_input(1, shape=[2, 0, 3]), r"input 'x' has shape \[2, 0, 3\] with nothing in it"),
    "no rows": (set_input(1, shape=[0, 3, 3]), "with nothing in it"),
    "negative axis": (set_input(1, shape=[-2, -3, 3]), "with nothing in it"),
    "enormous shape": (set_input(1, shape=[2**62, 2**62, 3]), "input 'x' has 18 values"),
    "too few bytes": (set_raw(1, b"\0" * 8), r"2 values \(8 bytes\); its shape \[2, 3, 3\] needs 18 \(72 bytes\)"),
    "broken value": (set_raw(1, b"\0" * 71), "71 raw bytes, no whole number of FP32 values"),
    "raw entry missing": (lambda r: r.raw_input_contents.pop(), "raw_input_contents has 2 entries for 3"),
    "raw and typed": (lambda r: r.inputs[1].contents.fp32_contents.append(1), "typed contents beside raw"),
    "typed in the wrong field": (typed_in_the_wrong_field, "input 'tokens' has 0 values"),
    "NaN": (poke(np.nan), r"input 'x' holds nan at \[0, 1, 1\]; expected finite numbers"),
    "Inf": (poke(-np.inf), "input 'x' holds -inf"),
    "rows differ": (
        lambda r: (set_input(2, shape=[1, 3])(r), set_raw(2, b"\0" * 12)(r)),
        "inputs differ in rows: {'tokens': 2, 'x': 2, 'bias': 1}",
    ),
    "steps differ": (
        lambda r: (set_input(0, shape=[2, 2])(r), set_raw(0, b"\0" * 32)(r)),
        "inputs differ in steps",
    ),
    "shared memory": (
        lambda r: r.inputs[0].parameters["shared_memory_region"].CopyFrom(oip.InferParameter(string_param="r")),
        "parameter 'shared_memory_region' is not supported",
    ),
    "server-held sequence": (
        lambda r: r.parameters["sequence_id"].CopyFrom(oip.InferParameter(int64_param=7)),
        "'sequence_id' asks the server to keep",
    ),
    "length zero": (lambda r: with_lengths(r, [3, 0]), "values from 0 to 3; expected 1 to 3"),
    "length beyond": (lambda r: with_lengths(r, [3, 4]), "values from 3 to 4; expected 1 to 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_request_is_refused_with_what_came_and_what_was_expected(two: Manifest, case: str) -> None:
    edit, text = BAD[case]
    request = message()
    Decoder(two, POLICY).decode(request)
    edit(request)

    with pytest.raises(InvalidRequest, match=text):
        Decoder(two, POLICY).decode(request)


@pytest.mark.parametrize(
    ("rows", "steps", "text"),
    [(9, 1, r"9 rows; this model takes at most 8 \(max_request_rows"), (1, 17, "17 steps; .* at most 16 .max_steps")],
)
def test_limits_of_model_yaml_hold_and_are_named(two: Manifest, rows: int, steps: int, text: str) -> None:
    Decoder(two, POLICY).decode(message(8, 16))
    with pytest.raises(InvalidRequest, match=text):
        Decoder(two, POLICY).decode(message(rows, steps))


def test_an_equal_lengths_model_takes_one_length_per_request(tmp_path: Path) -> None:
    manifest = read_manifest(write_lstm(tmp_path, equal_lengths=True))
    request = oip.ModelInferRequest(model_name="lstm")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 3, FEATURES])
    request.raw_input_contents.append(np.zeros((2, 3, FEATURES), "<f4").tobytes())
    Decoder(manifest, POLICY).decode(request)

    with pytest.raises(InvalidRequest, match="rows of one length"):
        Decoder(manifest, POLICY).decode(with_lengths(request, [3, 2]))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_or_are_refused(two: Manifest, content: bytes) -> None:
    """Random bytes as a whole message: a parse error of protobuf, or InvalidRequest, and nothing else."""
    try:
        request = oip.ModelInferRequest.FromString(content)
    except DecodeError:
        return
    with pytest.raises(InvalidRequest):
        Decoder(two, POLICY).decode(request)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["name", "datatype", "shape", "raw"]),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.binary(max_size=80),
)
@settings(max_examples=300, deadline=None)
def test_a_mutated_request_decodes_or_is_refused(
    two: Manifest, seed: int, field: str, shape: list[int], content: bytes
) -> None:
    request = message(seed=seed)
    index = seed % 3
    match field:
        case "shape":
            set_input(index, shape=shape)(request)
        case "raw":
            set_raw(index, content)(request)
        case _:
            set_input(index, **{field: content.decode("latin-1")})(request)
    try:
        rows = Decoder(two, POLICY).decode(request)
    except InvalidRequest:
        return
    assert rows.rows == 2
    assert all(np.isfinite(array).all() for array in rows.inputs.values())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(out_of_range="clip"), [-1.0, 0.5, 2.0]),
        (Policy(out_of_range="allow"), [-50.0, 0.5, 1000.0]),
        (Policy(out_of_range="refuse"), None),
    ],
)
def test_values_outside_the_calibrated_range_of_an_int8_model_follow_the_policy(
    int8: Manifest, policy: Policy, expected: list[float] | None
) -> None:
    request = oip.ModelInferRequest(model_name="lstm")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1, FEATURES])
    request.raw_input_contents.append(np.array([-50.0, 0.5, 1000.0], "<f4").tobytes())
    if expected is None:
        with pytest.raises(InvalidRequest, match=r"values from -50 to 1000; .* calibrated on -1 to 2"):
            Decoder(int8, policy).decode(request)
        return
    assert Decoder(int8, policy).decode(request).inputs["x"].ravel().tolist() == expected


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("value", [-1, 100, 2**62])
def test_an_index_outside_the_table_is_refused_with_its_place_and_the_range(
    tmp_path: Path, rows: int, value: int
) -> None:
    manifest = read_manifest(write_two_inputs(tmp_path, vocabulary=100))
    request = message(rows)
    Decoder(manifest, POLICY).decode(request)
    tokens = np.frombuffer(request.raw_input_contents[0], "<i8").copy()
    tokens[-2] = value
    request.raw_input_contents[0] = tokens.tobytes()

    with pytest.raises(InvalidRequest, match=rf"'tokens' holds {value} at \[{rows - 1}, 1\]; expected 0 to 99"):
        Decoder(manifest, POLICY).decode(request)


def test_indices_beyond_a_rows_length_are_padding_whatever_they_are(tmp_path: Path) -> None:
    manifest = read_manifest(write_two_inputs(tmp_path, vocabulary=100))
    request = with_lengths(message(2, 3), [3, 1])
    tokens = np.frombuffer(request.raw_input_contents[0], "<i8").reshape(2, 3).copy()
    tokens[1, 1:] = [-1, 100]
    request.raw_input_contents[0] = tokens.tobytes()

    assert Decoder(manifest, POLICY).decode(request).inputs["tokens"].tolist() == [
        tokens[0].tolist(),
        [tokens[1, 0], 0, 0],
    ]


@pytest.mark.parametrize(
    ("bits", "finite"), [(0x7F7FFFFF, True), (0x7F800000, False), (0x7F800001, False), (0x7FC00000, False)]
)
def test_numbers_at_the_edge_are_told_apart_without_a_warning(bits: int, *, finite: bool) -> None:
    """The largest, infinity, and NaN of both kinds, the signalling one of which numpy's sum of squares warns of."""
    x = np.array([bits, 0], np.uint32).view(np.float32)

    if finite:
        check_finite("x", x)
    else:
        with pytest.raises(InvalidRequest, match=r"input 'x' holds (inf|nan) at \[0\]"):
            check_finite("x", x)
