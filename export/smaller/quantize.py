"""FP32 ONNX to INT8 with onnxruntime's dynamic quantization: recurrent layers always, large heads too.

Weights become INT8 with a scale per channel, in 7 bits: processors without VNNI add pairs of U8S8 products in 16 bits,
which 8-bit weights overflow (relative RMS errors of 0.2 to 1.3, measured, against 0.003 to 0.06).

A linear head is quantized only if it holds at least `HEAD_SHARE` of the file. Measured on 2-layer models: a head of 10
classes quantized as well doubles the error (relative RMS 0.003 to 0.005) and takes one percent off the file; one of
5,000 classes on hidden 256 takes off two thirds and makes batches of 32 a third faster. Heads that are Gemm nodes count
as the MatMul they are turned into. Tables (Gather) stay float: one scale for all words costs more than it saves.
The bodies of Loop and Scan, such as a decoder's, are treated like the graph around them.
Source: onnxruntime's documentation "Quantize ONNX models", and contrib operator DynamicQuantizeLSTM.

The file needs no `quant_pre_process` first: the exporter writes the weights as constants, all that it would fold.
"""

import dataclasses
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from export.errors import ExportError
from export.graphs import all_constants, all_nodes, bytes_of, name_nodes
from export.model import OnnxModel
from export.smaller.coverage import RECURRENT, Coverage, cover, named, weight_holders, weights_of

LINEAR = ("MatMul", "Gemm")
QUANTIZABLE = ("LSTM", "MatMul")
INT8_OPERATORS = ("DynamicQuantizeLSTM", "MatMulInteger")
SUFFIXES = ("_quant", "_MatMul")
"""What onnxruntime appends to the name of a node that it quantized, and before that to a Gemm that it made a MatMul."""
HEAD_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The INT8 model and what became of the nodes that hold weights.

    Attributes:
        model: as onnxruntime wrote it; the FP32 one if nothing of it is INT8.
    """

    model: OnnxModel
    coverage: Coverage

    @property
    def contents(self) -> tuple[bytes, ...]:
        """The ONNX files that hold it."""
        return (self.model.content,)

    @property
    def packed_bytes(self) -> int:
        """Bytes of INT8 weights beside the ONNX files."""
        return 0

    @property
    def largest_hidden(self) -> int:
        """Units of the largest INT8 recurrent layer; 0 if there is none."""
        nodes = all_nodes(onnx.load_from_string(self.model.content).graph)
        layers = [node for node in nodes if node.op_type == "DynamicQuantizeLSTM"]
        sizes = [int(each.i) for node in layers for each in node.attribute if each.name == "hidden_size"]
        return max(sizes, default=0)


def recurrent_nodes(content: bytes) -> tuple[str, ...]:
    """Return the names of the recurrent nodes of a float model, in order."""
    return tuple(node.name for node in all_nodes(onnx.load_from_string(content).graph) if node.op_type in RECURRENT)


def quantize(model: OnnxModel) -> Quantized:
    """Return the model with INT8 weights; inputs, outputs and state stay as they are.

    Raises:
        ExportError: onnxruntime has no INT8 form of any node, or it or the temporary folder fails.
    """
    quantized = quantize_if_possible(model)
    if not quantized.coverage.nodes:
        raise ExportError(
            "nothing can be quantized, so nothing was written. onnxruntime has an INT8 form of LSTM and of large "
            "linear layers with constant weights, and none of GRU and RNN. The model has: "
            f"{named(quantized.coverage.left) or 'no layer with weights'}. Serve the FP32 version"
        )
    return quantized


def quantize_if_possible(model: OnnxModel) -> Quantized:
    """Return the model with the INT8 weights that onnxruntime can give it, which may be none.

    Raises:
        ExportError: onnxruntime or the temporary folder fails.
    """
    proto = onnx.load_from_string(model.content)
    name_nodes(proto.graph)
    constants = all_constants(proto.graph)
    holders = weight_holders(proto.graph)
    large = {node.name for node in holders if node.op_type in LINEAR and _share(node, constants) >= HEAD_SHARE}
    wanted = [node.name for node in holders if node.op_type == "LSTM"] + sorted(large)
    content = _run(proto, wanted) if wanted else model.content
    done = {
        plain_name(node.name)
        for node in all_nodes(onnx.load_from_string(content).graph)
        if node.op_type in INT8_OPERATORS
    }
    coverage = cover(proto.graph, done, lambda node: _reason(node, constants, large))
    return Quantized(
        model=dataclasses.replace(model, content=content if coverage.nodes else model.content), coverage=coverage
    )


def _run(proto: onnx.ModelProto, wanted: Sequence[str]) -> bytes:
    """Let onnxruntime quantize the named nodes; it works through a file."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    add_pre_process_metadata(copy)
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "int8.onnx"
            quantize_dynamic(
                copy,
                path,
                op_types_to_quantize=list(QUANTIZABLE),
                nodes_to_quantize=[*wanted, *(f"{name}{SUFFIXES[1]}" for name in wanted)],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"EnableSubgraph": True},
            )
            return path.read_bytes()
    except OSError as error:
        raise ExportError(
            f"quantizing needs about {2 * proto.ByteSize():,} bytes in the temporary folder {tempfile.gettempdir()}: "
            f"{error.strerror or error}"
        ) from error


def plain_name(name: str) -> str:
    """Return the name that a quantized node had in the FP32 file."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _share(node: NodeProto, constants: Mapping[str, TensorProto]) -> float:
    tensor = weights_of(node, constants)
    return 0.0 if tensor is None else bytes_of(tensor) / sum(bytes_of(constant) for constant in constants.values())


def _reason(node: NodeProto, constants: Mapping[str, TensorProto], large: Collection[str]) -> str:
    """Return why a node stayed float."""
    if node.op_type in {"GRU", "RNN"}:
        return f"onnxruntime has no INT8 form of {node.op_type}"
    if node.op_type == "Conv":
        return "convolutions stay float: dynamic quantization is made for recurrent and linear layers"
    if node.op_type == "Gather":
        return "tables of embeddings stay float: one scale for all rows would cost more than it saves"
    if weights_of(node, constants) is None:
        return "its weights are computed in the graph; onnxruntime quantizes constants only"
    if node.name in large or node.op_type == "LSTM":
        return "onnxruntime left it in float"
    return f"it holds {_share(node, constants):.1%} of the weights, below {HEAD_SHARE:.0%}"
