"""Which nodes of a graph only look at a tensor in another shape, so that numpy can do it between recurrent layers."""

from collections.abc import Mapping
from typing import Literal

from onnx import GraphProto, NodeProto, numpy_helper

from export.graphs import read_by
from serving.engine.native.weights import FloatLayer
from serving.plan import ViewPart

ViewOperator = Literal["Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity"]
VIEWS: tuple[ViewOperator, ...] = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity")
DIRECTIONS_LAST = (0, 2, 1, 3)
"""Transposes [time, directions, batch, hidden] to [time, batch, directions, hidden]."""


def find_views(graph: GraphProto, layers: Mapping[str, FloatLayer]) -> dict[str, ViewPart]:
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
        self.found: dict[str, ViewPart] = {}
        for node in graph.node:
            source = self._makers.get(node.input[0]) if node.input else None
            if source is not None and self._is_known(source):
                self._take(node)
        readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in read_by(node):
                readers.setdefault(name, []).append(node)
        outputs = {output.name for output in graph.output}
        for node in reversed(graph.node):
            following = [reader for name in node.output for reader in readers.get(name, [])]
            if following and all(map(self._is_known, following)) and not outputs & set(node.output):
                self._take(node)

    def _is_known(self, node: NodeProto) -> bool:
        return node.name in self._layers or node.name in self.found

    def _take(self, node: NodeProto) -> None:
        axes = None if node.name in self._layers else self._axes(node)
        operator = next((name for name in VIEWS if name == node.op_type), None)
        if axes is not None and operator is not None and node.input[0] not in self._constants:
            self.found[node.name] = ViewPart(operator=operator, input=node.input[0], output=node.output[0], axes=axes)

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
