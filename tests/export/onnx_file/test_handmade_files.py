"""Forms of files that other converters write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.errors import ProofFailed
from export.model import OnnxModel
from export.onnx_file.reading import read_model, runnable
from export.runtime import Array, Row
from export.smaller.quantize import quantize
from tests.export.onnx_file.handmade import FEATURES, HIDDEN, integers, node, save, weights
from tests.export.onnx_file.support import converted, difference

LIMIT = 1e-5
X = {"x": (1, 7, FEATURES)}
FREE = {"x": ("n", "t", FEATURES)}
TO_TIME_MAJOR = node("Transpose", "x", "xt", perm=[1, 0, 2])


def by_file(file: Path, *, time_major: bool = False) -> Any:
    """Return how a file that is free in time answers a row alone."""
    session = onnxruntime.InferenceSession(runnable(read_model(file)).SerializeToString())

    def answer(row: Row) -> Mapping[str, Array]:
        x = row.inputs["x"][:, None] if time_major else row.inputs["x"][None]
        names = [output.name for output in session.get_outputs()]
        return {name: array[0] for name, array in zip(names, session.run(names, {"x": x}), strict=True)}

    return answer


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
    assert quantized.nodes == ("LSTM_4",)
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


def test_a_model_that_padding_would_change_names_the_node(tmp_path: Path) -> None:
    """The best value over time, picked by an operator that is not among those given lengths."""
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Transpose", "ys", "yb", perm=[1, 2, 0]),
        node("TopK", "yb one", "top where", axis=2, name="second"),
        node("Squeeze", "top two", "best"),
    ]
    file = save(
        tmp_path / "m.onnx", nodes, FREE, {"best": (None, HIDDEN)}, weights() | {"one": integers(1), "two": integers(2)}
    )

    manifest, _, report = converted(file)

    assert manifest.equal_lengths
    assert "node 'second' (TopK)" in report


def test_rows_and_steps_merged_in_an_answer_are_taken_apart(tmp_path: Path) -> None:
    """As `decoded.view(-1, classes)` leaves them; the time-major order of the numbers is kept in mind."""
    nodes = [
        node("LSTM", "x W R", "y", hidden_size=HIDDEN),
        node("Reshape", "y flat", "rows"),
        node("Gemm", "rows head bias", "scores", transB=1),
    ]
    rng = np.random.default_rng(1)
    head = {"head": rng.normal(size=(4, HIDDEN)).astype(np.float32), "bias": rng.normal(size=4).astype(np.float32)}
    constants = weights() | head | {"flat": integers(-1, HIDDEN)}
    file = save(tmp_path / "m.onnx", nodes, {"x": ("t", "n", FEATURES)}, {"scores": (None, 4)}, constants)

    manifest, runtime, _ = converted(file)

    def expected(row: Row) -> Mapping[str, Array]:
        session = onnxruntime.InferenceSession(file)
        return {"scores": session.run(None, {"x": row.inputs["x"][:, None]})[0]}

    assert manifest.outputs[0].shape == ("batch", "time", 4)
    assert manifest.stepwise
    assert difference(runtime, expected) < LIMIT


def test_a_single_row_that_was_indexed_away_stays(tmp_path: Path) -> None:
    """`y[0]` of a batch of 1, then a Gemm, which takes no third axis."""
    nodes = [
        TO_TIME_MAJOR,
        node("GRU", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Transpose", "ys", "yb", perm=[1, 0, 2]),
        node("Gather", "yb first", "alone", axis=0),
        node("Gemm", "alone head", "scores"),
    ]
    head = {"head": np.random.default_rng(1).normal(size=(HIDDEN, 4)).astype(np.float32)}
    constants = weights("GRU") | head | {"one": integers(1), "first": np.array(0)}
    file = save(tmp_path / "m.onnx", nodes, {"x": (1, "t", FEATURES)}, {"scores": (None, 4)}, constants)

    manifest, runtime, _ = converted(file)

    def expected(row: Row) -> Mapping[str, Array]:
        return {"scores": onnxruntime.InferenceSession(file).run(None, {"x": row.inputs["x"][None]})[0]}

    assert manifest.outputs[0].shape == ("batch", "time", 4)
    assert difference(runtime, expected) < LIMIT


def test_a_constant_joined_to_the_steps_gets_every_row(tmp_path: Path) -> None:
    """Two steps of zeros before the first, for a convolution that looks back."""
    nodes = [
        node("Transpose", "x", "xc", perm=[0, 2, 1]),
        node("Concat", "past xc", "longer", axis=2),
        node("Conv", "longer kernel", "seen"),
        node("Transpose", "seen", "xt", perm=[2, 0, 1]),
        node("RNN", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Transpose", "ys", "steps", perm=[1, 0, 2]),
    ]
    kernel = np.random.default_rng(1).normal(size=(FEATURES, FEATURES, 3)).astype(np.float32)
    constants = weights("RNN") | {"past": np.zeros((1, FEATURES, 2), np.float32), "kernel": kernel, "one": integers(1)}
    file = save(tmp_path / "m.onnx", nodes, {"x": (1, "t", FEATURES)}, {"steps": (1, None, HIDDEN)}, constants)

    manifest, runtime, _ = converted(file)

    assert (manifest.equal_lengths, manifest.stepwise) == (False, False)
    assert difference(runtime, by_file(file)) < LIMIT


def test_a_file_of_one_step_is_judged_step_by_step(tmp_path: Path) -> None:
    """As made for a device that keeps the states itself: batch 1, time 1, a head on that step."""
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R - - h0 c0", "y h1 c1", hidden_size=HIDDEN),
        node("Reshape", "y flat", "step"),
        node("Gemm", "step head", "scores"),
    ]
    head = {"head": np.random.default_rng(1).normal(size=(HIDDEN, 4)).astype(np.float32), "flat": integers(1, HIDDEN)}
    states = {"h0": (1, 1, HIDDEN), "c0": (1, 1, HIDDEN)}
    outputs = {"scores": (1, 4), "h1": (1, 1, HIDDEN), "c1": (1, 1, HIDDEN)}
    file = save(tmp_path / "m.onnx", nodes, {"x": (1, 1, FEATURES), **states}, outputs, weights() | head)
    session = onnxruntime.InferenceSession(file)

    manifest, runtime, report = converted(file)

    def expected(row: Row) -> Mapping[str, Array]:
        h = c = np.zeros((1, 1, HIDDEN), np.float32)
        scores = []
        for step in row.inputs["x"]:
            score, h, c = session.run(None, {"x": step[None, None], "h0": h, "c0": c})
            scores.append(score)
        return {"scores": np.concatenate(scores)}

    assert manifest.stepwise
    assert manifest.outputs[0].shape == ("batch", "time", 4)
    assert manifest.proofs[0].measured["longest_steps"] == 48
    assert "bound to" not in report
    assert difference(runtime, expected) < LIMIT


def test_a_constant_that_may_be_the_number_of_steps_fails_the_proof(tmp_path: Path) -> None:
    """A mean as a sum divided by 7: right at 7 steps, and the file cannot be asked for others."""
    nodes = [
        TO_TIME_MAJOR,
        node("GRU", "xt W R", "y", hidden_size=HIDDEN),
        node("ReduceSum", "y both", "total", keepdims=0),
        node("Div", "total seven", "mean", name="over"),
    ]
    constants = weights("GRU") | {"both": integers(0, 1), "seven": np.array(7, np.float32)}
    file = save(tmp_path / "m.onnx", nodes, X, {"mean": (1, HIDDEN)}, constants)

    with pytest.raises(ProofFailed, match=r"constants_that_may_be_the_steps.*'over' \(Div\)"):
        converted(file)
    assert converted(file, force=True)[0].forced


def test_a_file_of_this_exporter_can_be_exported_again(tmp_path: Path) -> None:
    """Its lengths, its state and the nodes that were added to it are known for what they are."""
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "y", hidden_size=HIDDEN),
        node("Squeeze", "y one", "ys"),
        node("Gather", "ys last", "end", axis=0),
    ]
    constants = weights() | {"one": integers(1), "last": np.array(-1)}
    file = save(tmp_path / "m.onnx", nodes, FREE, {"end": (None, HIDDEN)}, constants)
    _, once, _ = converted(file)
    again = tmp_path / "again.onnx"
    again.write_bytes(once.model.content)

    manifest, runtime, _ = converted(again)

    assert manifest.state == once.model.state
    assert [tensor.name for tensor in manifest.inputs] == ["x"]
    assert [tensor.name for tensor in manifest.outputs] == ["end"]
    assert difference(runtime, by_file(file)) < LIMIT


def test_a_branch_that_takes_values_from_outside(tmp_path: Path) -> None:
    """As torch's first exporter writes a squeeze whose axis may not be 1."""
    whole, cut = (
        helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
        for name, made in (("cut", node("Squeeze", "y one", "cut")), ("whole", node("Identity", "y", "whole")))
    )
    nodes = [
        TO_TIME_MAJOR,
        node("LSTM", "xt W R", "y", hidden_size=HIDDEN),
        node("Shape", "y", "directions", start=1, end=2),
        node("Equal", "directions one", "single"),
        helper.make_node("If", ["single"], ["ys"], then_branch=whole, else_branch=cut),
        node("ReduceMax", "ys zero", "best", keepdims=0),
    ]
    constants = weights() | {"one": integers(1), "zero": integers(0)}
    file = save(tmp_path / "m.onnx", nodes, FREE, {"best": (None, HIDDEN)}, constants)

    manifest, runtime, _ = converted(file)

    assert not manifest.equal_lengths
    assert difference(runtime, by_file(file)) < LIMIT
