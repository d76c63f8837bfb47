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

RECURRENT = ("LSTM", "GRU", "RNN")
LINEAR = ("MatMul", "Gemm")
QUANTIZABLE = ("LSTM", "MatMul")
INT8_OPERATORS = ("DynamicQuantizeLSTM", "MatMulInteger")
SUFFIXES = ("_quant", "_MatMul")
"""What onnxruntime appends to the name of a node that it quantized, and before that to a Gemm that it made a MatMul."""
WEIGHT_INPUT = {"Conv": 1, "Gather": 0, "LSTM": 1, "GRU": 1, "RNN": 1, "MatMul": 1, "Gemm": 1}
"""Which input of an operator is its weights."""
HEAD_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatNode:
    """A node whose weights stayed float, and why.

    Attributes:
        constants: names of those that it reads; nodes may share them.
        bytes: of these.
    """

    name: str
    operator: str
    constants: tuple[str, ...]
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The INT8 model and what became of the nodes that hold weights.

    Attributes:
        nodes: names of those that are INT8.
        left: those that stayed float.
        possible: nodes that hold float weights, by operator.
        done: of these the quantized ones, by operator.
    """

    model: OnnxModel
    nodes: tuple[str, ...]
    left: tuple[FloatNode, ...]
    possible: Mapping[str, int]
    done: Mapping[str, int]

    @property
    def float_nodes(self) -> tuple[str, ...]:
        """Names of the nodes that stayed float though they hold weights."""
        return tuple(node.name for node in self.left)

    @property
    def counts(self) -> dict[str, str]:
        """How many nodes of each operator are INT8, such as `2 of 3`."""
        return {operator: f"{self.done[operator]} of {total}" for operator, total in self.possible.items()}


def recurrent_nodes(content: bytes) -> tuple[str, ...]:
    """Return the names of the recurrent nodes of a float model, in order."""
    return tuple(node.name for node in all_nodes(onnx.load_from_string(content).graph) if node.op_type in RECURRENT)


def quantize(model: OnnxModel) -> Quantized:
    """Return the model with INT8 weights; inputs, outputs and state stay as they are.

    Raises:
        ExportError: onnxruntime has no INT8 form of any node, or it or the temporary folder fails.
    """
    proto = onnx.load_from_string(model.content)
    name_nodes(proto.graph)
    constants = all_constants(proto.graph)
    holders = [node for node in all_nodes(proto.graph) if _holds_weights(node, constants)]
    large = {node.name for node in holders if node.op_type in LINEAR and _share(node, constants) >= HEAD_SHARE}
    wanted = [node.name for node in holders if node.op_type == "LSTM"] + sorted(large)
    content = _run(proto, wanted) if wanted else model.content
    quantized = {
        plain_name(node.name)
        for node in all_nodes(onnx.load_from_string(content).graph)
        if node.op_type in INT8_OPERATORS
    }
    done = tuple(node.name for node in holders if node.name in quantized)
    computed = [node for node in all_nodes(proto.graph) if node.op_type in RECURRENT and node not in holders]
    candidates = [*holders, *computed]
    left = tuple(_float_node(node, constants, large) for node in candidates if node.name not in quantized)
    if not done:
        raise ExportError(_nothing(left))
    operators = list(dict.fromkeys(node.op_type for node in candidates))
    return Quantized(
        model=dataclasses.replace(model, content=content),
        nodes=done,
        left=left,
        possible={operator: sum(node.op_type == operator for node in candidates) for operator in operators},
        done={
            operator: sum(node.op_type == operator and node.name in quantized for node in candidates)
            for operator in operators
        },
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


def _weights(node: NodeProto, constants: Mapping[str, TensorProto]) -> TensorProto | None:
    place = WEIGHT_INPUT.get(node.op_type)
    tensor = None if place is None else constants.get(node.input[place])
    return tensor if tensor is not None and tensor.data_type == TensorProto.FLOAT else None


def _holds_weights(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    tensor = _weights(node, constants)
    return tensor is not None and len(tensor.dims) > 1


def _share(node: NodeProto, constants: Mapping[str, TensorProto]) -> float:
    tensor = _weights(node, constants)
    return 0.0 if tensor is None else bytes_of(tensor) / sum(bytes_of(constant) for constant in constants.values())


def _float_node(node: NodeProto, constants: Mapping[str, TensorProto], large: Collection[str]) -> FloatNode:
    read = tuple(name for name in node.input if name in constants)
    if node.op_type in {"GRU", "RNN"}:
        reason = f"onnxruntime has no INT8 form of {node.op_type}"
    elif node.op_type == "Conv":
        reason = "convolutions stay float: dynamic quantization is made for recurrent and linear layers"
    elif node.op_type == "Gather":
        reason = "tables of embeddings stay float: one scale for all rows would cost more than it saves"
    elif not _holds_weights(node, constants):
        reason = "its weights are computed in the graph; onnxruntime quantizes constants only"
    elif node.name in large or node.op_type == "LSTM":
        reason = "onnxruntime left it in float"
    else:
        reason = f"it holds {_share(node, constants):.1%} of the weights, below {HEAD_SHARE:.0%}"
    return FloatNode(
        name=node.name,
        operator=node.op_type,
        constants=read,
        bytes=sum(bytes_of(constants[name]) for name in read),
        reason=reason,
    )


def _nothing(left: Sequence[FloatNode]) -> str:
    named = "; ".join(f"'{node.name}' ({node.operator}, {node.bytes:,} bytes): {node.reason}" for node in left)
    return (
        "nothing can be quantized, so nothing was written. onnxruntime has an INT8 form of LSTM and of large linear "
        "layers with constant weights, and none of GRU and RNN. The model has: "
        f"{named or 'no layer with weights'}. Serve the FP32 version"
    )
