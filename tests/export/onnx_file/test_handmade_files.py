"""Forms of files that other converters write."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.model import OnnxModel
from export.smaller.quantize import quantize
from tests.export.onnx_file.handmade import (
    FEATURES,
    FREE,
    HIDDEN,
    LIMIT,
    TO_TIME_MAJOR,
    X,
    by_file,
    integers,
    node,
    save,
    weights,
)
from tests.export.onnx_file.support import converted, difference


def test_an_old_opset_with_zero_states_and_axes_as_attributes(tmp_path: Path) -> None:
    """Opset 9, batch 1 in the zeros; steps, last step, mean and maximum over time."""
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R - - h0 c0", "y", hidden_size=HIDDEN),
        node("Squeeze", "y", "ys", axes=[1]),
        node("Slice", "ys", "sl", axes=[0], starts=[-1], ends=[2**31 - 1]),
        node("Squeeze", "sl", "last", axes=[0]),
        node("ReduceMean", "ys", "mean", axes=[0], keepdims=0),
        node("ReduceMax", "ys", "max", axes=[0], keepdims=0),
        node("Transpose", "ys", "steps", perm=[1, 0, 2]),
    ]
    zeros = np.zeros((1, 1, HIDDEN), np.float32)
    outputs = {"last": (1, HIDDEN), "mean": (1, HIDDEN), "max": (1, HIDDEN), "steps": (1, None, HIDDEN)}
    file = save(
        tmp_path / "m.onnx", nodes, {"x": (1, "t", FEATURES)}, outputs, weights() | {"h0": zeros, "c0": zeros}, opset=9
    )

    manifest, runtime, report = converted(file)

    assert not manifest.equal_lengths
    assert difference(runtime, by_file(file)) < LIMIT
    assert "bound to" not in report


def test_reads_of_a_frozen_last_step(tmp_path: Path) -> None:
    """Index 6 of 7, as a Gather, as a Slice, and behind a Reshape to numbers."""
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "y", hidden_size=HIDDEN),
        node("Reshape", "y flat", "ys"),
        node("Gather", "ys six", "a", axis=0),
        node("Slice", "ys from to zero", "cut"),
        node("Reshape", "cut row", "b"),
    ]
    constants = weights() | {
        "flat": integers(7, 1, HIDDEN), "six": np.array(6), "from": integers(6), "to": integers(7), "zero": integers(0),
        "row": integers(1, HIDDEN),
    }  # fmt: skip
    file = save(tmp_path / "m.onnx", nodes, X, {"a": (1, HIDDEN), "b": (1, HIDDEN)}, constants)
    free = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "- h", hidden_size=HIDDEN),
        node("Squeeze", "h zero", "a"),
        node("Identity", "a", "b"),
    ]
    reference = save(tmp_path / "free.onnx", free, FREE, {"a": (None, HIDDEN), "b": (None, HIDDEN)}, constants)

    manifest, runtime, _ = converted(file)

    assert manifest.stepwise
    assert difference(runtime, by_file(reference)) < LIMIT


def test_a_backward_layer_made_by_reversing_the_steps(tmp_path: Path) -> None:
    nodes = [
        node("Slice", "x last first axis back", "reversed"),
        node("Transpose", "reversed", "xt", perm=[1, 0, 2]),
        node("GRU", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y axis", "ys"),
        node("Transpose", "ys", "yb", perm=[1, 0, 2]),
        node("Slice", "yb last first axis back", "steps"),
    ]
    constants = weights("GRU") | {
        "last": integers(-1),
        "first": integers(-(2**63)),
        "axis": integers(1),
        "back": integers(-1),
    }
    file = save(tmp_path / "m.onnx", nodes, FREE, {"steps": (None, None, HIDDEN)}, constants)

    manifest, runtime, _ = converted(file)

    assert not manifest.equal_lengths
    assert not manifest.stepwise
    assert difference(runtime, by_file(file)) < LIMIT


def test_a_batch_first_layout_is_turned(tmp_path: Path) -> None:
    """Onnxruntime refuses layout 1."""
    nodes = [node("LSTM", "x W R", "y h", hidden_size=HIDDEN, layout=1), node("Squeeze", "y two", "steps")]
    file = save(
        tmp_path / "m.onnx",
        nodes,
        FREE,
        {"steps": (None, None, HIDDEN), "h": (None, 1, HIDDEN)},
        weights() | {"two": integers(2)},
    )

    manifest, runtime, _ = converted(file)

    assert manifest.stepwise
    assert [tensor.shape for tensor in manifest.outputs] == [("batch", "time", HIDDEN), ("batch", 1, HIDDEN)]
    assert difference(runtime, by_file(file)) < LIMIT


def test_computed_weights_become_constants_that_int8_finds(tmp_path: Path) -> None:
    """Torch's newer exporter leaves wide layers' weights as Slice and Concat of constants."""
    parts = weights()
    nodes = [
        node("Transpose", "Wt", "Wf", perm=[0, 2, 1]),
        node("Identity", "Wf", "W"),
        node("Concat", "Ra Rb", "R", axis=1),
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Transpose", "ys", "steps", perm=[1, 0, 2]),
    ]
    constants = {
        "Wt": parts["W"].transpose(0, 2, 1), "Ra": parts["R"][:, :8], "Rb": parts["R"][:, 8:], "one": integers(1),
    }  # fmt: skip
    file = save(tmp_path / "m.onnx", nodes, FREE, {"steps": (None, None, HIDDEN)}, constants)

    manifest, runtime, _ = converted(file)
    quantized = quantize(runtime.model)

    assert manifest.stepwise
    assert difference(runtime, by_file(file)) < LIMIT
    assert quantized.coverage.nodes == ("LSTM_4",)
    assert isinstance(quantized.model, OnnxModel)


def test_external_weights_are_loaded_into_the_one_file(tmp_path: Path) -> None:
    nodes = [TO_TIME_MAJOR, node("RNN", "xt W R", "- h", hidden_size=HIDDEN), node("Squeeze", "h zero", "last")]
    file = save(tmp_path / "m.onnx", nodes, X, {"last": (1, HIDDEN)}, weights("RNN") | {"zero": integers(0)})
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, size_threshold=0, location="m.weights")

    manifest, _, _ = converted(file)

    assert manifest.file.bytes > 4 * HIDDEN * (FEATURES + HIDDEN)
    (tmp_path / "m.weights").unlink()
    with pytest.raises(Exception, match=r"m\.weights"):
        converted(file)


def test_a_constant_state_other_than_zero_stays_for_every_row(tmp_path: Path) -> None:
    nodes = [
        TO_TIME_MAJOR,
        node("GRU", "xt W R - - h0", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Transpose", "ys", "steps", perm=[1, 0, 2]),
    ]
    h0 = np.linspace(-1, 1, HIDDEN, dtype=np.float32).reshape(1, 1, HIDDEN)
    file = save(
        tmp_path / "m.onnx", nodes, {"x": (1, "t", FEATURES)}, {"steps": (1, None, HIDDEN)},
        weights("GRU") | {"h0": h0, "one": integers(1)},
    )  # fmt: skip

    manifest, runtime, report = converted(file)

    assert not manifest.stepwise
    assert not manifest.equal_lengths
    assert difference(runtime, by_file(file)) < LIMIT
    assert "starts from a state that is not zero and no input of the file" in report


def test_lengths_of_another_type_are_wired_to_the_artefacts(tmp_path: Path) -> None:
    nodes = [
        node("LSTM", "x W R - seq_len", "y", hidden_size=HIDDEN, direction="bidirectional"),
        node("Transpose", "y", "yb", perm=[2, 0, 1, 3]),
        node("Reshape", "yb joined", "steps"),
    ]
    file = save(
        tmp_path / "m.onnx", nodes, {"x": ("t", "n", FEATURES), "seq_len": ("n",)}, {"steps": (None, None, 2 * HIDDEN)},
        weights(directions=2) | {"joined": integers(0, 0, 2 * HIDDEN)}, types={"seq_len": TensorProto.INT32},
    )  # fmt: skip
    plain = [node("LSTM", "x W R", "y", hidden_size=HIDDEN, direction="bidirectional"), *nodes[1:]]
    reference = save(
        tmp_path / "free.onnx", plain, {"x": ("t", "n", FEATURES)}, {"steps": (None, None, 2 * HIDDEN)},
        weights(directions=2) | {"joined": integers(0, 0, 2 * HIDDEN)},
    )  # fmt: skip

    manifest, runtime, report = converted(file)

    assert [tensor.name for tensor in manifest.inputs] == ["x"]
    assert difference(runtime, by_file(reference, time_major=True)) < LIMIT
    assert "Its input `seq_len` is the artefact's `lengths`" in report


def test_axes_that_the_user_declares_are_taken(tmp_path: Path) -> None:
    """A file of nothing but open axes cannot be guessed."""
    nodes = [TO_TIME_MAJOR, node("LSTM", "xt W R", "- h", hidden_size=HIDDEN), node("Squeeze", "h zero", "last")]
    file = save(
        tmp_path / "m.onnx",
        nodes,
        {"x": (None, None, None)},
        {"last": (None, HIDDEN)},
        weights() | {"zero": integers(0)},
    )

    manifest, runtime, _ = converted(file, f"x:float32[batch,time,{FEATURES}]")

    assert manifest.stepwise
    assert difference(runtime, by_file(file)) < LIMIT
