"""Which nodes of a graph hold weights, and what quantization made of each."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, TensorProto

from export.graphs import all_constants, all_nodes, bytes_of

RECURRENT = ("LSTM", "GRU", "RNN")
WEIGHT_INPUT = {"Conv": 1, "Gather": 0, "LSTM": 1, "GRU": 1, "RNN": 1, "MatMul": 1, "Gemm": 1}
"""Which input of an operator is its weights."""


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
class Coverage:
    """What became of the nodes that hold weights.

    Attributes:
        nodes: names of those that are INT8.
        left: those that stayed float.
        counts: how many nodes of each operator are INT8, such as `2 of 3`.
    """

    nodes: tuple[str, ...]
    left: tuple[FloatNode, ...]
    counts: Mapping[str, str]

    @property
    def float_nodes(self) -> tuple[str, ...]:
        """Names of the nodes that stayed float though they hold weights."""
        return tuple(node.name for node in self.left)


def cover(graph: GraphProto, done: Collection[str], reason: Callable[[NodeProto], str]) -> Coverage:
    """Return what became of a float graph's nodes.

    Args:
        graph: whose nodes have names of their own.
        done: names of the nodes that are INT8 now.
        reason: says why another one is not.
    """
    constants = all_constants(graph)
    holders = weight_holders(graph)
    computed = [node for node in all_nodes(graph) if node.op_type in RECURRENT and node not in holders]
    candidates = [*holders, *computed]
    totals = Counter(node.op_type for node in candidates)
    quantized = Counter(node.op_type for node in candidates if node.name in done)
    return Coverage(
        nodes=tuple(node.name for node in candidates if node.name in done),
        left=tuple(_float_node(node, constants, reason(node)) for node in candidates if node.name not in done),
        counts={operator: f"{quantized[operator]} of {total}" for operator, total in totals.items()},
    )


def weight_holders(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes with constant FP32 weights, those of inner graphs too."""
    constants = all_constants(graph)
    return [node for node in all_nodes(graph) if _holds_weights(node, constants)]


def weights_of(node: NodeProto, constants: Mapping[str, TensorProto]) -> TensorProto | None:
    """Return a node's weights if they are an FP32 constant."""
    place = WEIGHT_INPUT.get(node.op_type)
    tensor = None if place is None else constants.get(node.input[place])
    return tensor if tensor is not None and tensor.data_type == TensorProto.FLOAT else None


def named(left: Collection[FloatNode]) -> str:
    """Return the nodes that stayed float, with their bytes and reasons, as text."""
    return "; ".join(f"'{node.name}' ({node.operator}, {node.bytes:,} bytes): {node.reason}" for node in left)


def _holds_weights(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    tensor = weights_of(node, constants)
    return tensor is not None and len(tensor.dims) > 1


def _float_node(node: NodeProto, constants: Mapping[str, TensorProto], reason: str) -> FloatNode:
    read = tuple(name for name in node.input if name in constants)
    size = sum(bytes_of(constants[name]) for name in read)
    return FloatNode(name=node.name, operator=node.op_type, constants=read, bytes=size, reason=reason)
