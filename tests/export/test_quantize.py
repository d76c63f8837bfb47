"""INT8: that it happens, and what the folder says of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from export.data import noise
from export.errors import ExportError
from export.graphs import all_nodes
from export.model import OnnxModel
from export.modules import GreedyDecoder
from export.proving.difference import Difference
from export.proving.int8_proofs import weight_bytes
from export.runtime import Runtime
from export.smaller.export_int8 import export_int8, read_model
from export.smaller.quantize import quantize, recurrent_nodes
from serving.manifest import Tensor as ManifestTensor
from serving.manifest import read_manifest
from tests.export.family_models import CausalWeather
from tests.export.models import Wide
from tests.export.support import exported, quiet_job, rows_of
from tests.support.artefacts import write_artefact


@pytest.fixture(scope="module")
def wide() -> OnnxModel:
    return exported(Wide, carry_state=True)[0].model


def test_weights_are_constants_even_of_wide_layers(wide: OnnxModel) -> None:
    """PyTorch's own export leaves weights of more than 8192 values to be computed, and quantization passes them over."""
    graph = onnx.load_from_string(wide.content).graph
    constants = {tensor.name for tensor in graph.initializer}

    lstm = [node for node in graph.node if node.op_type == "LSTM"]
    assert len(lstm) == 2
    assert all(set(node.input[1:4]) <= constants for node in lstm)


def test_layers_and_large_heads_become_int8_and_stay_close(wide: OnnxModel) -> None:
    quantized = quantize(wide)
    fp32, int8 = Runtime(wide), Runtime(quantized.model)
    difference = Difference(wide.outputs)
    for row in noise(wide).rows[:8]:
        difference.add(int8.answer([row])[0], fp32.answer([row])[0])

    operators = [node.op_type for node in onnx.load_from_string(quantized.model.content).graph.node]
    assert operators.count("DynamicQuantizeLSTM") == 2
    assert operators.count("MatMulInteger") == 1
    assert quantized.coverage.nodes[:2] == recurrent_nodes(wide.content) == ("lstm.layer0", "lstm.layer1")
    assert not quantized.coverage.float_nodes
    assert len(quantized.model.content) < 0.3 * len(wide.content)
    assert 0 < difference.rms_relative < 0.02
    assert difference.cosine > 0.999


def test_a_layer_with_computed_weights_is_named_instead_of_passed_over(wide: OnnxModel) -> None:
    proto = onnx.load_from_string(wide.content)
    for node in [node for node in proto.graph.node if node.op_type == "LSTM"]:
        proto.graph.node.insert(0, onnx.helper.make_node("Identity", [node.input[1]], [f"{node.name}_computed"]))
        node.input[1] = f"{node.name}_computed"

    quantized = quantize(replace(wide, content=proto.SerializeToString()))

    assert quantized.coverage.counts == {"MatMul": "1 of 1", "LSTM": "0 of 2"}
    assert [(node.name, node.reason.split(";")[0]) for node in quantized.coverage.left] == [
        ("lstm.layer0", "its weights are computed in the graph"),
        ("lstm.layer1", "its weights are computed in the graph"),
    ]


def test_a_model_of_gru_alone_is_refused(tmp_path: Path) -> None:
    _refused(_version(tmp_path, ["GRU"]), "INT8 form of LSTM.*none of GRU.*'gru0'.*Serve the FP32 version")


def test_a_model_of_convolutions_in_a_scan_is_refused_by_name() -> None:
    runtime, _ = exported(CausalWeather, ["x:float32[batch,time,2,4,5]"])

    with pytest.raises(ExportError, match=r"nothing can be quantized.*\(Conv, [\d,]+ bytes\): convolutions stay float"):
        quantize(runtime.model)


def test_a_model_of_lstm_and_gru_is_half_quantized_and_says_so(tmp_path: Path) -> None:
    directory = _version(tmp_path, ["LSTM", "GRU", "RNN"])
    job, shown = quiet_job()

    manifest = read_manifest(export_int8(directory, job, engine="onnxruntime"))

    assert manifest.int8 is not None
    assert manifest.int8.quantized_nodes == ("lstm0",)
    assert manifest.int8.float_nodes == ("gru1", "rnn2", "head")
    measured = manifest.proofs[0].measured
    assert [measured[f"{operator}_quantized"] for operator in ("LSTM", "GRU", "RNN", "MatMul")] == [
        "1 of 1",
        "0 of 1",
        "0 of 1",
        "0 of 1",
    ]
    [warning] = [warning for warning in manifest.warnings if warning.startswith("3 of the nodes")]
    assert "'gru1' (GRU, 480 bytes): onnxruntime has no INT8 form of GRU" in warning
    assert "'head' (MatMul, 16 bytes): it holds" in warning
    assert warning in shown.getvalue()


def test_nodes_inside_a_loop_are_quantized_with_the_weights_around_it() -> None:
    """A decoder's layers lie in the body of an ONNX Loop, their weights outside of it."""
    torch.manual_seed(0)
    runtime, _ = exported(partial(GreedyDecoder, _Decoder(), start=0, end=1, limit=4), ["source:int64[batch,time]"])
    before = {node.op_type: node for node in onnx.load_from_string(runtime.model.content).graph.node}

    quantized = quantize(runtime.model)
    graph = onnx.load_from_string(quantized.model.content).graph
    inner = [node.op_type for node in all_nodes(graph) if node not in graph.node]
    rows = rows_of(runtime, (5, 3, 1))
    pairs = zip(Runtime(quantized.model).answer(rows), runtime.answer(rows), strict=True)

    assert "Loop" in before
    assert inner.count("MatMulInteger") == 2
    assert quantized.coverage.counts["Gemm"] == "2 of 3"  # the cell looks at 4 inputs only
    assert weight_bytes(quantized.model.content) < 0.35 * weight_bytes(runtime.model.content)
    for answer, expected in pairs:
        assert answer["score"] == pytest.approx(expected["score"], rel=0.01)


def test_nodes_without_names_and_with_the_same_name_are_told_apart(tmp_path: Path) -> None:
    directory = _version(tmp_path, ["LSTM", "LSTM"])
    proto = onnx.load(directory / "model.onnx")
    for node in proto.graph.node:
        node.name = "same" if node.op_type == "LSTM" else ""

    quantized = quantize(replace(read_model(read_manifest(directory), directory), content=proto.SerializeToString()))

    assert quantized.coverage.counts["LSTM"] == "2 of 2"
    assert len(set(quantized.coverage.nodes)) == 2


def _refused(directory: Path, message: str) -> None:
    job, _ = quiet_job()
    with pytest.raises(ExportError, match=message):
        export_int8(directory, job, engine="onnxruntime")
    assert [path.name for path in directory.parent.iterdir()] == ["1"]


class _Decoder(nn.Module):
    """As small as a decoder can be whose layers are worth quantizing."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 4)
        self.encoder = nn.LSTM(4, 64, batch_first=True)
        self.cell = nn.LSTMCell(4, 64)
        self.score = nn.Linear(64, 512)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        del lengths
        y, (h, c) = self.encoder(self.words(source))
        return (y,), (h[0], c[0])

    def step(
        self, tokens: Tensor, state: tuple[Tensor, ...], memory: tuple[Tensor, ...], real: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        del memory, real
        h, c = self.cell(self.words(tokens % 12), (state[0], state[1]))
        return self.score(h), (h, c)


def _version(repository: Path, operators: Sequence[str]) -> Path:
    """Write an FP32 version of single layers of 4 units on each other and a head of one class."""
    rng = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    nodes = [
        helper.make_node("Cast", ["lengths"], ["lengths32"], to=onnx.TensorProto.INT32),
        helper.make_node("Transpose", ["x"], ["y0"], perm=[1, 0, 2]),
    ]
    weights = [numpy_helper.from_array(np.array([1], np.int64), "direction")]
    for index, operator in enumerate(operators):
        rows, width = 4 * gates[operator], 3 if index == 0 else 4
        shapes = {"W": (1, rows, width), "R": (1, rows, 4), "B": (1, 2 * rows)}
        names = [f"{letter}{index}" for letter in shapes]
        weights += [
            numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)
            for name, shape in zip(names, shapes.values(), strict=True)
        ]
        layer = f"{operator.lower()}{index}"
        nodes += [
            helper.make_node(operator, [f"y{index}", *names, "lengths32"], [f"d{index}"], name=layer, hidden_size=4),
            helper.make_node("Squeeze", [f"d{index}", "direction"], [f"y{index + 1}"]),
        ]
    weights.append(numpy_helper.from_array(np.ones((4, 1), np.float32), "scores"))
    nodes += [
        helper.make_node("Transpose", [f"y{len(operators)}"], ["batch_first"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["batch_first", "scores"], ["y"], name="head"),
    ]
    return write_artefact(
        repository / "m" / "1",
        nodes,
        weights,
        inputs=(ManifestTensor(name="x", datatype="FP32", shape=("batch", "time", 3)),),
        outputs=(ManifestTensor(name="y", datatype="FP32", shape=("batch", "time", 1)),),
    )
