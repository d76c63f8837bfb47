"""FP16 versions: which tensors stay FP32, how close they are, and what the folder says of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.data import read_data
from export.errors import ExportError, ProofFailed
from export.job import Checks
from export.model import OnnxModel
from export.proving.half_proofs import LONG_STEPS, RMS_LIMIT, prove_long
from export.pytorch.export_torch import export_torch
from export.runtime import Row, Runtime
from export.smaller.export_half import export_half
from export.smaller.export_int8 import export_int8, read_model
from export.smaller.half import clipped_constants, to_half
from export.spec import ExportSpec, parse_input
from serving.clock import SystemClock
from serving.engine.onnx import OnnxEngine
from serving.manifest import Manifest, State, Tensor, read_manifest
from tests.export.family_models import greedy_translator
from tests.export.models import Causal
from tests.export.support import X, exported, quiet_job, saved_weights
from tests.support.artefacts import write_artefact, write_ctc, write_lstm


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True, hidden=16)


@pytest.fixture(scope="module")
def half(version: Path) -> Path:
    job, _ = quiet_job()
    return export_half(version, job)


def _types(directory: Path) -> dict[str, int]:
    """Return the element type of every tensor of a version's graph whose type is known."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(directory / "model.onnx")).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


def test_weights_are_fp16_and_the_boundary_is_fp32(half: Path) -> None:
    types = _types(half)

    assert {types[name] for name in ("W", "R", "B", "Y", "Y_c")} == {TensorProto.FLOAT16}
    assert {types[name] for name in ("x", "state", "steps", "last", "next_state")} == {TensorProto.FLOAT}
    assert types["lengths"] == TensorProto.INT64


def test_the_manifest_names_the_precision_the_source_and_the_emulated_proofs(half: Path, version: Path) -> None:
    manifest, source = read_manifest(half), read_manifest(version)

    assert manifest.precision == "fp16"
    assert manifest.version == 2
    assert manifest.source["fp32_version"] == "1"
    assert (manifest.inputs, manifest.outputs, manifest.state) == (source.inputs, source.outputs, source.state)
    assert [(proof.name, proof.passed) for proof in manifest.proofs] == [
        ("fp16_emulated", True),
        ("fp16_long_emulated", True),
        ("company", True),
        ("chunks", True),
    ]
    accuracy, long = (proof.measured for proof in manifest.proofs[:2])
    assert 0 < float(accuracy["rms_relative"]) < 2e-3
    assert 0.45 < float(accuracy["weights_share"]) < 0.6
    assert long["steps"] == LONG_STEPS
    assert long["state_rounded"] == "after every step"
    assert any("verify --device cuda" in warning for warning in manifest.warnings)
    assert any("cuDNN holds their cell state in FP16" in note for note in manifest.notes)
    assert all(note in (half / "report.md").read_text() for note in manifest.notes)


def test_recurrent_layers_can_be_kept_in_fp32(version: Path, tmp_path: Path) -> None:
    copy = write_lstm(tmp_path, bidirectional=False, stepwise=True, hidden=16)
    assert (copy / "model.onnx").read_bytes() == (version / "model.onnx").read_bytes()
    job, _ = quiet_job()

    written = export_half(copy, job, float_state=True)

    types = _types(written)
    assert {types[name] for name in ("W", "R", "B")} == {TensorProto.FLOAT}
    assert any("cell state stay FP32" in note for note in read_manifest(written).notes)


def _counter(repository: Path) -> Path:
    """Write an LSTM cell that adds a hundredth at every step, which is between two FP16 numbers once it has counted."""
    wide = np.zeros((1, 4, 3), np.float32)  # gates i, o, f, c
    wide[0, 3, 0] = 0.0125
    bias = np.zeros((1, 8), np.float32)
    bias[0, :3] = 50.0  # all open
    nodes = [
        helper.make_node("Cast", ["lengths"], ["lengths32"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["x"], ["x_time"], perm=[1, 0, 2]),
        helper.make_node("Split", ["state"], ["h0", "c0"], axis=1, num_outputs=2),
        helper.make_node("Unsqueeze", ["h0", "axis"], ["initial_h"]),
        helper.make_node("Unsqueeze", ["c0", "axis"], ["initial_c"]),
        helper.make_node(
            "LSTM",
            ["x_time", "W", "R", "B", "lengths32", "initial_h", "initial_c"],
            ["", "Y_h", "Y_c"],
            name="lstm",
            hidden_size=1,
        ),
        helper.make_node("Squeeze", ["Y_h", "axis"], ["h1"]),
        helper.make_node("Squeeze", ["Y_c", "axis"], ["total"]),
        helper.make_node("Concat", ["h1", "total"], ["next_state"], axis=1),
    ]
    arrays = {"W": wide, "R": np.zeros((1, 4, 1), np.float32), "B": bias, "axis": np.array([0], np.int64)}
    return write_artefact(
        repository / "counter" / "1",
        nodes,
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        inputs=(Tensor(name="x", datatype="FP32", shape=("batch", "time", 3)),),
        outputs=(Tensor(name="total", datatype="FP32", shape=("batch", 1)),),
        state=State(input="state", output="next_state", size=2),
    )


def test_where_fp16_loses_the_state_over_many_steps_recurrent_layers_stay_fp32(tmp_path: Path) -> None:
    directory = _counter(tmp_path)
    model = read_model(read_manifest(directory), directory)
    np.savez(tmp_path / "data.npz", x=np.ones((4, 30, 3)))
    rows = read_data(tmp_path / "data.npz", model.inputs).rows
    job, _ = quiet_job(data=tmp_path / "data.npz")

    lost = prove_long(Runtime(model), Runtime(to_half(model, float_state=False), half=True), rows)
    manifest = read_manifest(export_half(directory, job))

    assert not lost.passed
    assert all(proof.passed for proof in manifest.proofs)
    assert any("cell state stay FP32" in note for note in manifest.notes)


def test_a_model_without_state_cannot_show_what_rounding_it_costs(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path)
    model = read_model(read_manifest(directory), directory)
    row = Row(inputs={"x": np.ones((20, 3), np.float32)}, steps=20)

    proof = prove_long(Runtime(model), Runtime(to_half(model, float_state=False), half=True), [row])

    assert proof.measured["state_rounded"] == "no: the model runs as a whole"


def test_softmax_and_means_stay_fp32(tmp_path: Path) -> None:
    job, _ = quiet_job()

    written = export_half(write_ctc(tmp_path), job)

    graph = onnx.load(written / "model.onnx").graph
    [softmax] = [node for node in graph.node if node.op_type == "LogSoftmax"]
    [cast] = [node for node in graph.node if softmax.input[0] in node.output]
    assert (cast.op_type, cast.attribute[0].i) == ("Cast", TensorProto.FLOAT)
    assert read_manifest(written).decodings == read_manifest(tmp_path / "ctc" / "1").decodings


def test_transposes_before_products_load_in_fp16() -> None:
    """With its fusion of Transpose and MatMul on, onnxruntime 1.32 crashes."""
    runtime, _ = exported(Causal, carry_state=True)
    model = to_half(runtime.model, float_state=False)
    rows = [Row(inputs={"x": np.ones((5, 3), np.float32)}, steps=5)]

    [answer], [expected] = Runtime(model, half=True).answer(rows), runtime.answer(rows)

    assert all(np.abs(answer[name] - expected[name]).max() < 1e-3 for name in expected)


def test_the_server_loads_such_a_version_too(tmp_path: Path) -> None:
    """The same graph in a folder, in the server's own engine."""
    job, _ = quiet_job()
    spec = ExportSpec(
        factory="tests.export.models:Causal",
        weights=saved_weights(Causal, tmp_path),
        name="causal",
        inputs=(parse_input(X),),
    )
    written = export_half(export_torch(spec, tmp_path / "models", job), job)
    manifest = read_manifest(written)

    engine = OnnxEngine(manifest, written / "model.onnx", device="cpu", threads=1)

    engine.warm_up([(1, 5), (3, 2)], SystemClock())
    assert manifest.precision == "fp16"


def test_constants_beyond_the_range_are_named(version: Path) -> None:
    proto = onnx.load(version / "model.onnx")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1e9, 1.0], np.float32), "mask"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-np.inf, 1.0], np.float32), "infinite"))

    assert clipped_constants(proto.SerializeToString()) == ("mask",)


def test_a_decoder_in_a_loop_is_refused() -> None:
    runtime, _ = exported(greedy_translator, ["source:int64[batch,time]"])

    with pytest.raises(ExportError, match=r"the model has Loop.*Serve the FP32 version"):
        to_half(runtime.model, float_state=False)


def test_only_fp32_versions_are_converted_and_the_gate_holds(tmp_path: Path) -> None:
    job, _ = quiet_job()
    source = write_lstm(tmp_path, bidirectional=False, stepwise=True, hidden=16)
    int8 = export_int8(source, job)

    with pytest.raises(ExportError, match="is int8 already"):
        export_half(int8, job)
    with pytest.raises(ProofFailed, match="gate"):
        export_half(source, job, Checks(gate={"rms": 1e-9}))
    assert [path.name for path in sorted(source.parent.iterdir())] == ["1", "2"]
    forced: Manifest = read_manifest(export_half(source, replace(job, force=True), Checks(gate={"rms": 1e-9})))
    assert forced.forced
    assert float(forced.proofs[0].measured["rms_relative"]) < RMS_LIMIT
    assert isinstance(read_model(forced, source.parent / "3"), OnnxModel)
