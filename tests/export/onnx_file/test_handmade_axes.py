"""Files whose rows and steps are merged, indexed away, joined, or bound to a number."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.errors import ProofFailed
from export.runtime import Array, Row
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
