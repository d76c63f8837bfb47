"""New nodes for a traced graph: where rows really end, and reads that stop there.

One rule carries all rewrites: an axis whose size is f(time) has f(lengths) real entries in each row. A row alone has
time = lengths, so what covers the real entries only gives each row what it gets alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sympy
import torch
from torch.fx import Graph, Node
from torch.utils._sympy import functions  # its only home; sizes of traced tensors are made of these

from export.pytorch.rewrites.axes import Axes

aten = torch.ops.aten


class Unsupported(Exception):  # noqa: N818  says why a node stays as it is; never leaves this package
    """A size that is made of the number of steps in a way that has no form on tensors here."""


class Writer:
    """Adds nodes before the one that is being rewritten, and keeps what several rewrites share."""

    def __init__(self, graph: Graph, axes: Axes) -> None:
        self.graph, self.axes = graph, axes
        self._lengths: dict[sympy.Expr, Node] = {}
        self._padding: dict[tuple[sympy.Expr, int, int, int, int], Node] = {}
        self._trace: str | None = None

    @contextmanager
    def replacing(self, node: Node) -> Iterator[None]:
        """Put new nodes before `node`, and have them come from its line."""
        self._trace = node.meta.get("stack_trace")
        with self.graph.inserting_before(node):
            yield

    def put(self, target: Any, *args: Any, **kwargs: Any) -> Node:  # noqa: ANN401  operators and arguments of any kind
        """Add a call and return it, with its value's shape."""
        node = self.graph.call_function(target, args, kwargs)
        values = torch.fx.map_arg((args, kwargs), lambda arg: arg.meta["val"])
        with self.axes.lengths.meta["val"].fake_mode:
            node.meta["val"] = target(*values[0], **values[1])
        if self._trace is not None:
            node.meta["stack_trace"] = self._trace
        return node

    def size(self, node: Node, axis: int) -> int | Node:
        """Return the size of an axis: the number, or a node that gives it."""
        size = node.meta["val"].shape[axis]
        return size if isinstance(size, int) else self.put(aten.sym_size.int, node, axis)

    def lengths(self, size: object) -> Node:
        """Return f(lengths), int64[batch], or float32[batch] of a fraction, for a number f(time).

        Raises:
            Unsupported: f is not made of sums, products, quotients and roots.
        """
        expression = self.axes.steps(size)
        assert expression is not None
        if expression not in self._lengths:
            self._lengths[expression] = self._evaluate(expression)
        return self._lengths[expression]

    def _evaluate(self, expression: sympy.Expr) -> Any:  # noqa: ANN401, PLR0911  a node or a number; one per operation
        if expression.is_Symbol:
            return self.axes.lengths
        if expression.is_Number:
            return int(expression) if expression.is_Integer else float(expression)
        parts = [self._evaluate(part) for part in expression.args]
        match expression:
            case sympy.Add() | sympy.Mul():
                target = aten.add.Tensor if isinstance(expression, sympy.Add) else aten.mul.Tensor
                total, *rest = sorted(parts, key=lambda part: not isinstance(part, Node))
                for part in rest:
                    total = self.put(target, total, part)
                return total
            case functions.FloorDiv():
                return self.put(aten.div.Tensor_mode, self._tensor(parts[0]), parts[1], rounding_mode="floor")
            case functions.IntTrueDiv() | functions.FloatTrueDiv():
                return self.put(aten.div.Tensor, self._tensor(parts[0]), parts[1])
            case functions.ToFloat():
                return self.put(aten.to.dtype, parts[0], torch.float32)
            case functions.FloatPow():
                return self.put(aten.pow.Tensor_Scalar, self._tensor(parts[0]), parts[1])
        raise Unsupported(str(expression))

    def _tensor(self, part: Node | float) -> Node:
        return part if isinstance(part, Node) else self.put(aten.full_like.default, self.axes.lengths, part)

    def padding(self, node: Node, axis: int) -> Node | None:
        """Return bool, true where an axis over time is padding, of a shape that broadcasts with `node`.

        None if the tensor has no single axis of rows, or the axis does not run over time.
        """
        size = node.meta["val"].shape[axis]
        rows = self.axes.row_axis(node)
        expression = self.axes.steps(size)
        if rows is None or expression is None:
            return None
        rank = node.meta["val"].dim()
        key = (expression, rows[0], axis, rank, rows[1])
        if key not in self._padding:
            positions = self.put(aten.arange.default, self.size(node, axis))
            ends = self.put(aten.unsqueeze.default, self.lengths(size), 1)
            beyond = self.put(aten.ge.Tensor, positions, ends)
            self._padding[key] = self.spread(beyond, (rows[0], axis), rank, rows[1])
        return self._padding[key]

    def spread(self, tensor: Node, places: Sequence[int], rank: int, k: int) -> Node:
        """Return dtype[batch] or dtype[batch, n] with its axes at `places` of `rank`, and each row k times."""
        if k > 1:
            tensor = self.put(aten.repeat_interleave.self_int, tensor, k, 0)
        if len(places) == 2 and places[0] > places[1]:
            tensor = self.put(aten.transpose.int, tensor, 0, 1)
        for axis in range(rank):
            if axis not in places:
                tensor = self.put(aten.unsqueeze.default, tensor, axis)
        return tensor

    def fill(self, node: Node, axes: Sequence[int], value: float) -> Node | None:
        """Return the tensor with `value` in the padding of its axes over time; None if that cannot be told."""
        for axis in axes:
            padding = self.padding(node, axis)
            if padding is None:
                return None
            if node.meta["val"].dtype != torch.bool:
                node = self.put(aten.masked_fill.Scalar, node, padding, value)
            elif value:  # onnxruntime's Where takes no booleans
                node = self.put(aten.logical_or.default, node, padding)
            else:
                node = self.put(aten.logical_and.default, node, self.put(aten.logical_not.default, padding))
        return node

    def per_row(self, numbers: Node, node: Node, *, like: Node | None = None) -> Node:
        """Return dtype[batch] numbers in a shape that broadcasts with `node`, of the dtype of `like` if given."""
        rows = self.axes.row_axis(node)
        assert rows is not None
        if like is not None:
            numbers = self.put(aten.to.dtype, numbers, like.meta["val"].dtype)
        return self.spread(numbers, (rows[0],), node.meta["val"].dim(), rows[1])

    def take(self, node: Node, axis: int, index: Node) -> Node | None:
        """Return the entries at int64[batch, n] of an axis, each row its own; None without a single axis of rows."""
        rows = self.axes.row_axis(node)
        if rows is None:
            return None
        index = self.spread(index, (rows[0], axis), node.meta["val"].dim(), rows[1])
        sizes = [-1 if other in (rows[0], axis) else self.size(node, other) for other in range(node.meta["val"].dim())]
        return self.put(aten.gather.default, node, axis, self.put(aten.expand.default, index, sizes))
