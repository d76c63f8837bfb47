"""Which nodes of a graph only look at a tensor in another shape, so that numpy can do it between recurrent layers.

A Split of what leads to them, such as a carried state, becomes views of its parts. A Concat of what comes from them is
numpy's as well if it is an answer, such as the next state: no call of onnxruntime is left in a stepwise stack.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal

from onnx import GraphProto, NodeProto, numpy_helper

from export.graphs import read_by
from serving.engine.native.weights import FloatLayer
from serving.plan import ConcatPart, ViewPart

ViewOperator = Literal["Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity"]
VIEWS: tuple[ViewOperator, ...] = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity")
DIRECTIONS_LAST = (0, 2, 1, 3)
"""Transposes [time, directions, batch, hidden] to [time, batch, directions, hidden]."""


Parts = tuple[ViewPart | ConcatPart, ...]


def find_views(graph: GraphProto, layers: Mapping[str, FloatLayer]) -> dict[str, Parts]:
    """Return the views of the graph by node: those that follow a recurrent layer, or lead to recurrent layers only.

    Args:
        graph: whose nodes have names of their own.
        layers: the recurrent nodes that the native engine runs, by name.
    """
    return _Search(graph, layers).found


class _Search:
    def __init__(self, graph: GraphProto, layers: Mapping[str, FloatLayer]) -> None:
        self._layers = layers
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._dims = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info)}
        self._outputs = {output.name for output in graph.output}
        self.found: dict[str, Parts] = {}
        for node in graph.node:
            sources = [self._makers.get(name) for name in node.input]
            if node.op_type == "Concat" and node.output[0] in self._outputs:
                self._take_concat(node, sources)
            elif sources and sources[0] is not None and self._is_known(sources[0]):
                self._take(node)
        readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in read_by(node):
                readers.setdefault(name, []).append(node)
        for node in reversed(graph.node):
            following = [reader for name in node.output for reader in readers.get(name, [])]
            if following and all(map(self._is_known, following)) and not self._outputs & set(node.output):
                self._take(node)

    def _is_known(self, node: NodeProto) -> bool:
        return node.name in self._layers or node.name in self.found

    def _take(self, node: NodeProto) -> None:
        if node.name in self._layers or node.input[0] in self._constants:
            return
        if node.op_type == "Split":
            self._take_split(node)
            return
        axes = self._axes(node)
        operator = next((name for name in VIEWS if name == node.op_type), None)
        if axes is not None and operator is not None:
            view = ViewPart(operator=operator, input=node.input[0], output=node.output[0], axes=axes)
            self.found[node.name] = (view,)

    def _take_split(self, node: NodeProto) -> None:
        axis = _axis(node)
        sizes = self._integers(node.input[1]) if len(node.input) > 1 else self._equal_sizes(node, axis)
        if sizes is None or axis < 0:
            return
        ends = pairwise(accumulate(sizes, initial=0))
        self.found[node.name] = tuple(
            ViewPart(operator="Slice", input=node.input[0], output=output, axes=(axis, *place))
            for output, place in zip(node.output, ends, strict=True)
            if output
        )

    def _equal_sizes(self, node: NodeProto, axis: int) -> tuple[int, ...] | None:
        """Return the sizes of as many parts as a Split has outputs, the last one smaller if they do not fit."""
        dims = self._dims.get(node.input[0])
        total = dims[axis].dim_value if dims is not None and len(dims) > axis else 0
        size = -(-total // len(node.output))
        sizes = [min(size, total - start) for start in range(0, total, size)] if total else []
        return tuple(sizes) if len(sizes) == len(node.output) else None

    def _take_concat(self, node: NodeProto, sources: Sequence[NodeProto | None]) -> None:
        if all(source is not None and self._is_known(source) for source in sources):
            self.found[node.name] = (ConcatPart(inputs=tuple(node.input), output=node.output[0], axis=_axis(node)),)

    def _axes(self, node: NodeProto) -> tuple[int, ...] | None:
        """Return what a view does, as the plan has it; None if the node is no view or it cannot be told."""
        match node.op_type:
            case "Identity":
                return ()
            case "Transpose":
                return next((tuple(each.ints) for each in node.attribute if each.name == "perm"), None)
            case "Squeeze" | "Unsqueeze":
                return self._integers(node.input[1]) if len(node.input) > 1 else None
            case "Reshape":
                return self._shape(node)
        return None

    def _integers(self, name: str) -> tuple[int, ...] | None:
        tensor = self._constants.get(name)
        return None if tensor is None else tuple(int(value) for value in numpy_helper.to_array(tensor).ravel())

    def _shape(self, node: NodeProto) -> tuple[int, ...] | None:
        """Return a Reshape's shape: a constant one, or [time, batch, all directions] of a layer's transposed output.

        The latter is computed from the sizes of inputs, so its time and batch are the tensor's own: 0 and 0. Should
        it be another shape of as many values after all, the proof of the cut finds it.
        """
        constant = self._integers(node.input[1])
        if constant is not None:
            return constant
        shape, transpose = self._makers.get(node.input[1]), self._makers.get(node.input[0])
        if shape is None or shape.op_type != "Concat" or len(shape.input) != 3 or transpose is None:
            return None
        recurrent = self._makers.get(transpose.input[0]) if transpose.input else None
        layer = None if recurrent is None else self._layers.get(recurrent.name)
        if transpose.op_type != "Transpose" or self._axes(transpose) != DIRECTIONS_LAST or layer is None:
            return None
        width = len(layer.w) * layer.hidden
        return (0, 0, width) if self._integers(shape.input[2]) in {(width,), (-1,)} else None


def _axis(node: NodeProto) -> int:
    return next((int(each.i) for each in node.attribute if each.name == "axis"), 0)
