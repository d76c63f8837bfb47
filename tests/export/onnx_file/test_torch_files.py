"""Files of torch's two exporters, frozen and free: equal to PyTorch in any batch and at any length."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.onnx_file.nets import (
    FEATURES,
    HIDDEN,
    BidirectionalStates,
    Convolved,
    LastAndSteps,
    MaskedMean,
    Packed,
    Pools,
    SelfAttention,
    Squeezed,
    Stateful,
    Tagger,
    TimeMajor,
    ZerosByNumber,
)
from tests.export.onnx_file.support import by_torch, converted, difference, seeded, traced

LIMIT = 1e-5
X = torch.zeros(1, 7, FEATURES)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_frozen_file_serves_any_batch_and_length(tmp_path: Path, batch: int) -> None:
    model = seeded(LastAndSteps)
    file = traced(
        model, tmp_path / "m.onnx", torch.zeros(batch, 7, FEATURES), input_names=["x"], output_names=["last", "steps"]
    )

    manifest, runtime, report = converted(file)

    assert [tensor.shape for tensor in manifest.inputs] == [("batch", "time", FEATURES)]
    assert [tensor.shape for tensor in manifest.outputs] == [("batch", 4), ("batch", "time", 4)]
    assert (manifest.equal_lengths, manifest.stepwise) == (False, False)
    assert difference(runtime, by_torch(model, "last", "steps")) < LIMIT
    assert manifest.source["file"] == "m.onnx"
    assert "bound to 7 steps, so parity with it was proven at lengths of 7 only" in report
    assert "is bidirectional" in report


def test_a_frozen_file_of_the_other_exporter(tmp_path: Path) -> None:
    model = seeded(LastAndSteps)
    file = traced(model, tmp_path / "m.onnx", X, dynamo=True, input_names=["x"], output_names=["last", "steps"])

    manifest, runtime, _ = converted(file)

    assert not manifest.equal_lengths
    assert difference(runtime, by_torch(model, "last", "steps")) < LIMIT


def test_a_free_file_of_the_other_exporter(tmp_path: Path) -> None:
    model = seeded(TimeMajor)
    file = traced(
        model,
        tmp_path / "m.onnx",
        torch.zeros(6, 2, FEATURES),
        dynamo=True,
        dynamic_shapes={"x": {0: torch.export.Dim("steps"), 1: torch.export.Dim("rows")}},
        input_names=["x"],
        output_names=["y", "last", "h"],
    )

    manifest, runtime, _ = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        y, last, h = model(torch.from_numpy(row.inputs["x"][:, None]))
        return {"y": y[:, 0].numpy(), "last": last[0].numpy(), "h": h[:, 0].numpy()}

    assert manifest.stepwise
    assert [tensor.shape for tensor in manifest.outputs] == [
        ("batch", "time", HIDDEN),
        ("batch", HIDDEN),
        ("batch", 2, HIDDEN),
    ]
    assert difference(runtime, expected) < LIMIT


def test_a_time_major_file_is_turned(tmp_path: Path) -> None:
    model = seeded(TimeMajor)
    file = traced(
        model, tmp_path / "m.onnx", torch.zeros(7, 1, FEATURES), input_names=["x"], output_names=["y", "last", "h"]
    )

    manifest, runtime, _ = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        y, last, h = model(torch.from_numpy(row.inputs["x"][:, None]))
        return {"y": y[:, 0].numpy(), "last": last[0].numpy(), "h": h[:, 0].numpy()}

    assert manifest.stepwise
    assert manifest.state is not None
    assert manifest.state.size == 2 * 2 * HIDDEN
    assert difference(runtime, expected) < LIMIT


@pytest.mark.parametrize("free", [False, True])
def test_states_that_the_file_takes_and_gives_become_one(tmp_path: Path, *, free: bool) -> None:
    model = seeded(Stateful)
    names = ["x", "h0", "c0"]
    axes = {"x": {0: "batch", 1: "steps"}, "h0": {1: "batch"}, "c0": {1: "batch"}}
    states = torch.zeros(2, 1, HIDDEN)
    file = traced(
        model,
        tmp_path / "m.onnx",
        X,
        states,
        states,
        input_names=names,
        output_names=["y", "hn", "cn"],
        dynamic_axes=axes if free else None,
    )

    manifest, runtime, report = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        return {"y": model(torch.from_numpy(row.inputs["x"][None]), states, states)[0][0].numpy()}

    assert manifest.stepwise
    assert [tensor.name for tensor in manifest.inputs] == ["x"]
    assert [tensor.name for tensor in manifest.outputs] == ["y"]
    assert {proof.name: proof.passed for proof in manifest.proofs} == {"parity": True, "company": True, "chunks": True}
    assert difference(runtime, expected) < LIMIT
    assert "`c0`, `cn`, `h0`, `hn` are in the carried state" in report


@pytest.mark.parametrize("free", [False, True])
def test_mean_maximum_and_attention_cover_real_steps_only(tmp_path: Path, *, free: bool) -> None:
    model = seeded(Pools)
    file = traced(
        model,
        tmp_path / "m.onnx",
        X,
        input_names=["x"],
        output_names=["a", "b", "c"],
        dynamic_axes={"x": {0: "batch", 1: "time"}} if free else None,
    )

    manifest, runtime, _ = converted(file)

    assert not manifest.equal_lengths
    assert difference(runtime, by_torch(model, "a", "b", "c")) < LIMIT


def test_attention_among_steps_covers_real_ones_only(tmp_path: Path) -> None:
    model = seeded(SelfAttention)
    file = traced(model, tmp_path / "m.onnx", X, input_names=["x"], output_names=["y"])

    manifest, runtime, report = converted(file)

    assert not manifest.equal_lengths
    assert not manifest.stepwise
    assert difference(runtime, by_torch(model, "y")) < LIMIT
    assert "chunks with carried state differ" in report


def test_lengths_that_the_file_takes_are_the_artefacts(tmp_path: Path) -> None:
    model = seeded(Packed)
    file = traced(
        model,
        tmp_path / "m.onnx",
        torch.zeros(2, 7, FEATURES),
        torch.tensor([7, 4]),
        input_names=["x", "lens"],
        output_names=["y", "h"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "lens": {0: "batch"}, "y": {0: "batch", 1: "time"}},
    )

    manifest, runtime, report = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        y, h = model(torch.from_numpy(row.inputs["x"][None]), torch.tensor([row.steps]))
        return {"y": y[0].numpy(), "h": h[:, 0].numpy()}

    assert [tensor.name for tensor in manifest.inputs] == ["x"]
    assert difference(runtime, expected) < LIMIT
    assert "Its input `lens` is the artefact's `lengths`" in report


@pytest.mark.parametrize("axes", [None, {"tokens": {0: "n", 1: "m"}}])
def test_words(tmp_path: Path, axes: Any) -> None:
    model = seeded(Tagger)
    tokens = torch.zeros(1, 7, dtype=torch.int64)
    file = traced(model, tmp_path / "m.onnx", tokens, input_names=["tokens"], output_names=["y"], dynamic_axes=axes)

    manifest, runtime, _ = converted(file)

    assert manifest.inputs[0].shape == ("batch", "time")
    assert manifest.inputs[0].datatype == "INT64"
    assert manifest.stepwise
    assert difference(runtime, by_torch(model, "y", name="tokens")) < LIMIT


def test_a_convolution_before_the_layer_sees_no_padding(tmp_path: Path) -> None:
    model = seeded(Convolved)
    file = traced(model, tmp_path / "m.onnx", torch.zeros(1, FEATURES, 9), input_names=["x"], output_names=["y"])

    manifest, runtime, _ = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        return {"y": model(torch.from_numpy(row.inputs["x"].T[None].copy()))[0].numpy()}

    assert manifest.inputs[0].shape == ("batch", "time", FEATURES)
    assert not manifest.equal_lengths
    assert difference(runtime, expected) < LIMIT


def test_an_answer_that_lost_its_batch_of_one_gets_it_back(tmp_path: Path) -> None:
    model = seeded(Squeezed)
    file = traced(model, tmp_path / "m.onnx", X, input_names=["x"], output_names=["y"])

    manifest, runtime, _ = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        return {"y": model(torch.from_numpy(row.inputs["x"][None])).numpy().reshape(row.steps)}

    assert manifest.outputs[0].shape == ("batch", "time")
    assert difference(runtime, expected) < LIMIT


def test_a_file_that_calls_its_batch_free_and_freezes_it_inside(tmp_path: Path) -> None:
    model = seeded(ZerosByNumber)
    file = traced(
        model,
        tmp_path / "m.onnx",
        X,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch", 1: "time"}},
    )

    manifest, runtime, _ = converted(file)

    assert manifest.stepwise
    assert difference(runtime, by_torch(model, "y")) < LIMIT


def test_lengths_that_serve_a_mask_only(tmp_path: Path) -> None:
    """They reach no recurrent node, so they are known by their name."""
    model = seeded(MaskedMean)
    file = traced(
        model,
        tmp_path / "m.onnx",
        X,
        torch.tensor([7]),
        input_names=["x", "seq_len"],
        output_names=["mean"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "seq_len": {0: "batch"}},
    )

    manifest, runtime, report = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        return {"mean": model(torch.from_numpy(row.inputs["x"][None]), torch.tensor([row.steps]))[0].numpy()}

    assert [tensor.name for tensor in manifest.inputs] == ["x"]
    assert not manifest.stepwise
    assert difference(runtime, expected) < LIMIT
    assert "chunks with carried state differ" in report


def test_states_that_cannot_be_carried_stay_inputs_and_outputs(tmp_path: Path) -> None:
    """Nothing is lost: a client may still give them, rows first."""
    model = seeded(BidirectionalStates)
    states = torch.zeros(4, 1, HIDDEN)
    file = traced(model, tmp_path / "m.onnx", X, states, input_names=["x", "h0"], output_names=["y", "hn"])

    manifest, runtime, _ = converted(file)

    def expected(row: Any) -> dict[str, Any]:
        y, h = model(torch.from_numpy(row.inputs["x"][None]), torch.from_numpy(row.inputs["h0"][:, None]))
        return {"y": y[0].numpy(), "hn": h[:, 0].numpy()}

    assert [tensor.shape for tensor in manifest.inputs] == [("batch", "time", FEATURES), ("batch", 4, HIDDEN)]
    assert not manifest.stepwise
    assert difference(runtime, expected) < LIMIT
