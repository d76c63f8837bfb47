"""Walks over ONNX graphs, those inside Loop, Scan and If included."""

import math
from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Give the graphs that a node holds: the bodies of Loop and Scan, the branches of If."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Give the graph and every graph inside it, outer ones first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Give every node, in the order of the file, those of inner graphs after their graph's own."""
    for part in all_graphs(graph):
        yield from part.node


def all_constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the initializers by name; inner graphs see those of outer ones."""
    return {tensor.name: tensor for part in all_graphs(graph) for tensor in part.initializer}


def bytes_of(tensor: TensorProto) -> int:
    """Return how many bytes a constant's values take."""
    return math.prod(tensor.dims) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own: onnxruntime's tools are told by name what to do with them."""
    taken: set[str] = set()
    for index, node in enumerate(all_nodes(graph)):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{index}"
        taken.add(node.name)


def read_by(node: NodeProto) -> list[str]:
    """Return the names of the tensors that a node reads, also those that the graphs inside it take from outside."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        names += _read_from_outside(graph)
    return names


def _read_from_outside(graph: GraphProto) -> list[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in read_by(node)] + [output.name for output in graph.output]
    return [name for name in read if name not in own]
