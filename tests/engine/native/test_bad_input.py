"""Damaged weights are refused and never read out of bounds; calls that do not fit get a clear error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.engine.native.library import RecurrentLayer, Weights
from serving.engine.native.weights import HEADER_BYTES, RECORD_BYTES, FloatLayer, pack
from serving.errors import ArtifactError, EngineUnavailable
from tests.engine.native.exact import open_layer, open_layers, random_layer

CONTENT = pack(
    [
        random_layer(1, "LSTM", "bidirectional", 5, 9, peephole=True),
        random_layer(2, "GRU", "reverse", 9, 3),
    ]
)
TABLE = HEADER_BYTES + 2 * RECORD_BYTES


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, TABLE - 1) | st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), max_size=6
    ),
    size=st.none() | st.integers(1, len(CONTENT) + 100),
)
def test_a_changed_file_is_refused_or_runs_within_its_bounds(
    tmp_path: Path, edits: list[tuple[int, int]], size: int | None
) -> None:
    content = bytearray(CONTENT)
    for place, value in edits:
        content[place] = value
    if size is not None:
        content = (content + bytes(100))[:size]
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    try:
        weights = Weights(path)
    except ArtifactError:
        return
    for index in range(weights.layers):
        layer = RecurrentLayer(weights, index, threads=2)
        x = np.ones((3, 2, weights.describe(index).inputs), np.float32)
        try:
            layer.run(x)
        except FloatingPointError:
            continue


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be mapped"),
        (b"LSTMQNT1", "shorter than a header"),
        (b"x" * 200, "LSTMQNT1"),
        (CONTENT[:8] + b"\x09" + CONTENT[9:], "format is 9"),
        (CONTENT + b"\0", "bytes"),
        (CONTENT[:-1] + b"", "bytes"),
        (CONTENT[:12] + b"\xff\xff\0\0" + CONTENT[16:], "layers"),
        (CONTENT[:64] + b"\x07" + CONTENT[65:], "layer 0: unknown operator"),
        (CONTENT[:TABLE] + b"\0" * 64 + CONTENT[TABLE + 64 :], "not 1 to 127"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=problem):
        Weights(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.bin: cannot be mapped"):
        Weights(tmp_path / "absent.bin")


def test_unknown_instructions_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_NATIVE_ISA", "mmx")
    with pytest.raises(EngineUnavailable, match="portable"):
        open_layers(tmp_path, [random_layer(1, "RNN", "forward", 2, 2)])


def test_a_layer_that_is_not_there_is_said(tmp_path: Path) -> None:
    weights = open_layers(tmp_path, [random_layer(1, "RNN", "forward", 2, 2)])
    with pytest.raises(ArtifactError, match="has 1 layers, the plan asks for layer 1"):
        RecurrentLayer(weights, 1, threads=1)


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"x": floats(3, 2, 5)}, r"expected float32\[time, batch, 4\]"),
        ({"x": floats(0, 2, 4)}, "not empty"),
        ({"x": floats(3, 0, 4)}, "not empty"),
        ({"x": floats(3, 2, 4).astype(np.float64)}, "float64"),
        ({"lengths": np.array([3, 0], np.int32)}, "from 0 to 3, expected 1 to 3"),
        ({"lengths": np.array([4, 1], np.int32)}, "from 1 to 4, expected 1 to 3"),
        ({"lengths": np.array([3, 3], np.int64)}, "int64"),
        ({"lengths": np.array([3], np.int32)}, r"int32\[1\]"),
        ({"initial_h": floats(2, 2, 6)}, r"expected float32\[1, 2, 6\]"),
        ({"initial_c": floats(1, 2, 7)}, r"expected float32\[1, 2, 6\]"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(tmp_path: Path, call: dict[str, Any], problem: str) -> None:
    run = open_layer(tmp_path, random_layer(1, "LSTM", "forward", 4, 6)).run
    with pytest.raises(ValueError, match=problem):
        run(**{"x": floats(3, 2, 4)} | call)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["x", "initial_h"])
def test_what_is_not_finite_is_refused_and_its_row_named(
    tmp_path: Path, instruction_set: str, where: str, value: float
) -> None:
    del instruction_set
    run = open_layer(tmp_path, random_layer(1, "LSTM", "bidirectional", 4, 6)).run
    call: dict[str, Any] = {"x": np.ones((3, 5, 4), np.float32), "initial_h": np.zeros((2, 5, 6), np.float32)}
    call[where][1, 3, 2] = value
    with pytest.raises(FloatingPointError, match="row 3"):
        run(**call)


def test_padding_may_hold_anything(tmp_path: Path, instruction_set: str) -> None:
    del instruction_set
    run = open_layer(tmp_path, random_layer(1, "GRU", "bidirectional", 4, 6)).run
    x = np.ones((5, 2, 4), np.float32)
    lengths = np.array([2, 5], np.int32)
    clean = run(x, lengths)
    x[2:, 0] = np.nan
    for found, expected in zip(run(x, lengths), clean, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"b": floats(1, 3)}, r"'b' are float32\[1, 3\], expected float32\[1, 48\]"),
        ({"w": np.full((1, 24, 4), np.nan, np.float32)}, "NaN"),
        ({"relu": True}, "'relu' is for RNN"),
    ],
)
def test_weights_that_do_not_fit_are_not_packed(change: dict[str, Any], problem: str) -> None:
    layer = random_layer(1, "LSTM", "forward", 4, 6)
    kept = {name: getattr(layer, name) for name in ("operator", "direction", "w", "r", "b")}
    with pytest.raises(ValueError, match=problem):
        pack([FloatLayer(**kept | change)])
