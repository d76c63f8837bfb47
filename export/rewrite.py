"""Edits of the traced graph: reads of the last step go by `lengths`, and outputs become batch-first.

Each pattern is a function of a node that returns the node to take its place, or None; `PATTERNS` lists them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from export.errors import ExportError
from export.spec import boundary_order
from serving.manifest import BATCH, TIME, Datatype, Dimension, Tensor

aten = torch.ops.aten
DATATYPES: dict[torch.dtype, Datatype] = {torch.float32: "FP32", torch.int32: "INT32", torch.int64: "INT64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The graph's symbols for rows and steps, and its input of lengths."""

    batch: str
    time: str
    lengths: Node

    def name(self, size: int | torch.SymInt) -> Dimension | str:
        """Return `batch`, `time`, the number, or the symbolic expression of anything else."""
        return size if isinstance(size, int) else {self.batch: BATCH, self.time: TIME}.get(str(size), str(size))

    def names(self, node: Node) -> list[Dimension | str]:
        """Return what each axis of a tensor is."""
        return [self.name(size) for size in node.meta["val"].shape]


def find_axes(program: ExportedProgram, *, time_input: int, lengths_input: int) -> Axes:
    """Return the symbols of the program, whose inputs are batch-first.

    Args:
        program: traced with dynamic batch and time.
        time_input: position of an input that follows time.
        lengths_input: position of the lengths.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    batch, time, *_ = nodes[str(names[time_input])].meta["val"].shape
    return Axes(batch=str(batch), time=str(time), lengths=nodes[str(names[lengths_input])])


def read_by_lengths(program: ExportedProgram, axes: Axes) -> int:
    """Replace the reads that a padded batch would make wrong; returns how many were replaced."""
    graph = program.graph_module.graph
    replaced = 0
    for node in list(graph.nodes):
        for pattern in PATTERNS:
            with graph.inserting_before(node):
                replacement = pattern(graph, node, axes)
            if replacement is not None:
                node.replace_all_uses_with(replacement)
                graph.erase_node(node)
                replaced += 1
                break
    _settle(program)
    return replaced


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
                nodes[index] = _insert(graph, aten.permute.default, nodes[index], list(order))
        datatype = DATATYPES[nodes[index].meta["val"].dtype]
        described.append((_tensor(name, datatype, tuple(shape[axis] for axis in order)), order))
    output.args = (tuple(nodes),)
    _settle(program)
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


def _last_step(graph: Graph, node: Node, axes: Axes) -> Node | None:
    """Turn `y.select(time, -k)` into a gather at `lengths - k`, where rows of a padded batch really end."""
    if node.target is not aten.select.int:
        return None
    source, axis, index = node.args
    assert isinstance(source, Node)
    assert isinstance(axis, int)
    names = axes.names(source)
    axis %= len(names)
    from_end = _from_end(index, source, axis)
    if names[axis] != TIME or names.count(BATCH) != 1 or from_end is None:
        return None
    sizes = [1 if name == TIME else -1 if name == BATCH else name for name in names]
    if not all(isinstance(size, int) for size in sizes):
        return None
    position = _insert(graph, aten.add.Tensor, axes.lengths, from_end)
    for other, name in enumerate(names):
        if name != BATCH:
            position = _insert(graph, aten.unsqueeze.default, position, other)
    position = _insert(graph, aten.expand.default, position, sizes)
    return _insert(graph, aten.squeeze.dim, _insert(graph, aten.gather.default, source, axis, position), axis)


def _from_end(index: object, source: Node, axis: int) -> int | None:
    """Return -k if `index` is k steps before the end of the axis, given as -k or as size - k; else None."""
    if isinstance(index, int):
        return index if index < 0 else None
    if isinstance(index, Node):
        difference = (index.meta["val"] - source.meta["val"].shape[axis]).node.expr
        return int(difference) if difference.is_Integer and difference < 0 else None
    return None


PATTERNS: list[Callable[[Graph, Node, Axes], Node | None]] = [_last_step]


def _insert(graph: Graph, target: Any, *args: Any) -> Node:  # noqa: ANN401  operators and arguments of any kind
    node = graph.call_function(target, args)
    node.meta["val"] = target(*[arg.meta["val"] if isinstance(arg, Node) else arg for arg in args])
    return node


def _settle(program: ExportedProgram) -> None:
    """Make the program's signature and code follow its edited graph."""
    graph = program.graph_module.graph
    graph.eliminate_dead_code()
    results = graph.output_node().args[0]
    for spec, result in zip(program.graph_signature.output_specs, results, strict=True):
        if isinstance(result, Node):
            spec.arg.name = result.name
    graph.lint()
    program.graph_module.recompile()
