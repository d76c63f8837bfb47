"""How many indices an integer input may take: the rows of the tables that the graph looks its values up in."""

from collections.abc import Iterator, Sequence

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from export.graphs import all_constants, all_nodes, subgraphs
from export.model import OnnxModel
from serving.manifest import Tensor

PASSING: dict[str, tuple[int, ...] | None] = {
    "Cast": (0,),
    "Concat": None,
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Identity": (0,),
    "Reshape": (0,),
    "ReverseSequence": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Operators that hand values on unchanged, and from which inputs (None: all). Arithmetic may map values elsewhere."""


def with_vocabularies(model: OnnxModel) -> tuple[Tensor, ...]:
    """Return the model's inputs, each integer one with the rows of the smallest table that its values index.

    Inputs that index no table keep what they have.
    """
    graph = onnx.load_from_string(model.content).graph
    return tuple(
        tensor
        if tensor.datatype == "FP32" or not (sizes := list(_table_sizes(graph, tensor.name)))
        else tensor.model_copy(update={"vocabulary": min(sizes)})
        for tensor in model.inputs
    )


def _table_sizes(graph: GraphProto, name: str) -> Iterator[int]:
    """Give the size of each table that values of a tensor index; values are followed through what only moves them."""
    constants = all_constants(graph)
    nodes = list(all_nodes(graph))
    pending, seen = [name], set[str]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for node in nodes:
            places = [place for place, used in enumerate(node.input) if used == current]
            if node.op_type == "Gather" and 1 in places and node.input[0] in constants:
                yield constants[node.input[0]].dims[_axis(node, constants[node.input[0]])]
            pending += _moved_to(node, places)


def _moved_to(node: NodeProto, places: Sequence[int]) -> Iterator[str]:
    """Give the tensors that hold the values of a node's inputs at these places, inner graphs' inputs included."""
    if node.op_type in PASSING:
        passing = PASSING[node.op_type]
        if places and (passing is None or set(places) & set(passing)):
            yield from node.output
    elif node.op_type in {"Loop", "Scan"}:
        for body in subgraphs(node):
            offset = len(body.input) - len(node.input)
            yield from (body.input[place + offset].name for place in places if place + offset >= 0)


def _axis(node: NodeProto, table: TensorProto) -> int:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return int(axis) % len(table.dims)
