"""All nodes of the file in order, each freed of frozen sizes and made to go by `lengths`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, OperatorSetIdProto, TensorProto

from export.errors import ExportError
from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import Array, NodeFailure, show
from export.onnx_file.frozen import free_node
from export.onnx_file.inputs import Plan
from export.onnx_file.lengths import give_lengths
from export.onnx_file.outputs import describe, open_output
from export.onnx_file.probing import IS_TIME
from export.onnx_file.reading import PREFIX, RECURRENT
from export.onnx_file.reads import read_gather, read_reversed, read_slice
from export.onnx_file.reductions import MASKS
from export.onnx_file.rescue import rescue_node
from export.onnx_file.reshape import Frozen
from export.spec import LENGTHS
from serving.manifest import TIME

ELEMENT_TYPES = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64}
READS: dict[str, Callable[[NodeProto, Builder], bool]] = {
    "Gather": read_gather,
    "Slice": read_slice,
    "ReverseSequence": read_reversed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A file's nodes that depend on an input, its constants, and what its inputs and outputs are called."""

    nodes: Sequence[NodeProto]
    constants: Mapping[str, Array]
    opsets: Sequence[OperatorSetIdProto]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """A graph free in batch and time.

    Attributes:
        plan: the reading of the inputs under which it is.
        over_rows: the recurrent nodes that run over the batch's rows and steps, with `lengths` wired.
        rewritten: names of nodes that now go by lengths.
        mixing: what it says of nodes that take steps together in a way that lengths could not be given to.
        outputs: names of the graph's values by names of the file's outputs.
    """

    builder: Builder
    plan: Plan
    frozen: Frozen
    over_rows: tuple[NodeProto, ...]
    rewritten: tuple[str, ...]
    mixing: tuple[str, ...]
    outputs: Mapping[str, str]


def free(folded: Folded, readings: Iterable[tuple[Plan, Frozen]]) -> Freed:
    """Return the graph under the first reading of its inputs that works.

    Raises:
        NodeFailure: none does; the reason is that of the reading which came furthest.
    """
    furthest, reason = -1, None
    for plan, frozen in readings:
        walk = _Walk(folded, plan, frozen)
        try:
            return walk.run()
        except NodeFailure as error:
            if len(walk.builder.nodes) > furthest:
                furthest, reason = len(walk.builder.nodes), error
    if reason is None:
        raise ExportError("no input can be [batch, time, ...]")
    raise reason


class _Walk:
    """One attempt."""

    def __init__(self, folded: Folded, plan: Plan, frozen: Frozen) -> None:
        self.folded, self.plan, self.frozen = folded, plan, frozen
        self.builder = Builder(folded.opsets, folded.constants)
        self.over_rows: list[NodeProto] = []
        self.rewritten: list[str] = []
        self.mixing: list[str] = []

    def run(self) -> Freed:
        self._boundary()
        for node in self.folded.nodes:
            self._take(node)
        if not self.over_rows:
            raise NodeFailure("no recurrent node runs over the time of the inputs, [time, batch, features]")
        outputs = {name.removeprefix(PREFIX): open_output(name, self.builder) for name in self.folded.outputs}
        return Freed(
            builder=self.builder,
            plan=self.plan,
            frozen=self.frozen,
            over_rows=tuple(self.over_rows),
            rewritten=tuple(self.rewritten),
            mixing=tuple(self.mixing),
            outputs=outputs,
        )

    def _boundary(self) -> None:
        """Add the artefact's inputs, and what turns them into the file's."""
        builder = self.builder
        builder.lengths_input()
        for item in self.plan:
            inner = PREFIX + item.name
            if item.is_lengths:
                builder.emit("Cast", LENGTHS, output=inner, to=ELEMENT_TYPES[item.datatype])
                continue
            builder.input(item.name, item.tensor.shape, item.tensor.dtype)
            order = [item.order.index(axis) for axis in range(len(item.order))]
            builder.transpose(item.name, order, output=inner)
        builder.steps_from(next(item.name for item in self.plan if TIME in item.axes))

    def _take(self, original: NodeProto) -> None:
        builder = self.builder
        node = free_node(original, builder, self.frozen)
        rewrite = READS.get(node.op_type) or MASKS.get(node.op_type)
        try:
            if rewrite is not None and rewrite(node, builder):
                self.rewritten.append(node.name)
                return
            if node.op_type in RECURRENT:
                node = _copy(node)
                _check_single(node, builder)
                if give_lengths(node, builder):
                    self.over_rows.append(node)
            builder.add(node)
        except NodeFailure as error:
            rescued = rescue_node(original, builder, self.frozen)
            if rescued is None:
                raise NodeFailure(self._reason(node, error)) from error
            builder.add(rescued)
            node = rescued
        self._note_mixing(node)

    def _reason(self, node: NodeProto, error: NodeFailure) -> str:
        shapes = {name: describe(self.builder.values[name]) for name in node.input if name in self.builder.values}
        return f"batch and time cannot be freed: {error} (its inputs: {shapes})"

    def _note_mixing(self, node: NodeProto) -> None:
        values = self.builder.values
        before = [name for name in node.input if name in values and IS_TIME in values[name].axes]
        after = [name for name in node.output if name and IS_TIME not in values[name].axes]
        if before and after and node.op_type not in {*RECURRENT, "Shape", "Size", "Transpose"}:
            self.mixing.append(show(node))


def _check_single(node: NodeProto, builder: Builder) -> None:
    dtype = builder.values[node.input[0]].samples[0].dtype
    if dtype != np.float32:
        raise NodeFailure(f"{show(node)} computes in {dtype}; export the model in float32")


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy
