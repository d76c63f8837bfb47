"""The outputs of a traced graph: batch-first, and of a form that has a place on the wire."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from export.errors import ExportError
from export.pytorch.rewrites.axes import Axes
from export.pytorch.rewrites.writer import Writer, aten
from export.spec import boundary_order
from serving.manifest import BATCH, TIME, Datatype, Dimension, Tensor

DATATYPES: dict[torch.dtype, Datatype] = {torch.float32: "FP32", torch.int32: "INT32", torch.int64: "INT64"}


def make_batch_first(
    program: ExportedProgram, axes: Axes, names: Sequence[str]
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Move batch to axis 0 and time to axis 1 of the first `len(names)` outputs.

    Returns:
        For each the manifest's tensor, and the permutation from what `forward` gives to it.

    Raises:
        ExportError: an output has no batch axis, an axis of another dynamic size, or a dtype without a wire form.
    """
    graph = program.graph_module.graph
    output = graph.output_node()
    nodes = list(output.args[0])
    described = []
    for index, name in enumerate(names):
        shape = _describe(nodes[index], name, axes)
        order = boundary_order(shape)
        if order != tuple(range(len(shape))):
            with graph.inserting_before(output):
                nodes[index] = Writer(graph, axes).put(aten.permute.default, nodes[index], list(order))
        datatype = DATATYPES[nodes[index].meta["val"].dtype]
        described.append((_tensor(name, datatype, tuple(shape[axis] for axis in order)), order))
    output.args = (tuple(nodes),)
    settle(program)
    return described


def _describe(node: Any, name: str, axes: Axes) -> tuple[Dimension, ...]:  # noqa: ANN401  a constant is no node
    if not isinstance(node, Node) or not isinstance(node.meta.get("val"), torch.Tensor):
        raise ExportError(f"output '{name}' does not depend on the inputs; leave it out of what forward returns")
    shape = axes.names(node)
    dtype = node.meta["val"].dtype
    if dtype not in DATATYPES:
        raise ExportError(
            f"output '{name}' is {dtype}; expected one of {[str(d) for d in DATATYPES]}: convert it in forward"
        )
    known = tuple(size for size in shape if isinstance(size, int) or size in {BATCH, TIME})
    if len(known) != len(shape) or shape.count(BATCH) != 1 or shape.count(TIME) > 1:
        raise ExportError(
            f"output '{name}' has the axes {shape}; expected 'batch' once, 'time' at most once, and numbers: a server "
            "must be able to tell which part belongs to which row and step"
        )
    return cast("tuple[Dimension, ...]", known)


def _tensor(name: str, datatype: Datatype, shape: tuple[Dimension, ...]) -> Tensor:
    if 0 in shape:
        raise ExportError(f"output '{name}' is empty: its axes are {list(shape)}")
    return Tensor(name=name, datatype=datatype, shape=shape)


def settle(program: ExportedProgram) -> None:
    """Make the program's signature and code follow its edited graph."""
    graph = program.graph_module.graph
    for node in graph.find_nodes(op="call_function", target=aten._assert_scalar.default):  # noqa: SLF001  its name
        graph.erase_node(node)  # what torch assumes of sizes is for it to compile with, not for a graph of operators
    graph.eliminate_dead_code()
    results = graph.output_node().args[0]
    for spec, result in zip(program.graph_signature.output_specs, results, strict=True):
        if isinstance(result, Node):
            spec.arg.name = result.name
    graph.lint()
    program.graph_module.recompile()
