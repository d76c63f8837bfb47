"""The recurrent nodes' initial states, lifted into one carried `state`, float32[batch, S]: h, then c, node by node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from export.errors import CarriedStateUnsupported
from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import show
from export.onnx_file.frozen import INITIAL
from export.onnx_file.probing import PROBES, Value
from export.onnx_file.reading import PREFIX, RECURRENT
from export.onnx_file.walk import Freed
from export.spec import NEXT_STATE, STATE
from serving.manifest import Tensor

REARRANGING = frozenset(
    {"Identity", "Slice", "Gather", "Split", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Flatten", "Cast"}
)
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A graph with carried state.

    Attributes:
        nodes: all of them, in order.
        size: S.
        inputs: the file's own state inputs, which `state` takes the place of, by name: the final states (by the names
            of the values) that go on from each.
        values: as the builder's.
    """

    nodes: tuple[NodeProto, ...]
    size: int
    inputs: Mapping[str, frozenset[str]]
    values: Mapping[str, Value]


def lift_state(freed: Freed) -> Lifted:
    """Return the nodes with every initial state a part of `state`, and every final one a part of `next_state`.

    Raises:
        CarriedStateUnsupported: a recurrent node reads the sequence backwards, does not run over the batch's rows and
            steps, or starts from a state that is neither zero nor an input of the file.
    """
    builder = freed.builder
    makers = {name: node for node in builder.nodes for name in node.output}
    taken = [_check(node, freed, makers) for node in builder.nodes if node.op_type in RECURRENT]
    names = {name for starts in taken for name in starts.values()}
    size = sum(STATES[node.op_type] * _hidden(node, builder) for node in freed.over_rows)
    copies = {node.name: _copy(node) for node in builder.nodes}
    work = builder.branch()
    work.values[STATE] = Value(tuple(np.zeros((probe.batch, size), np.float32) for probe in PROBES))
    offset, finals = 0, []
    for node in freed.over_rows:
        copy, hidden = copies[node.name], _hidden(node, builder)
        for i in range(STATES[node.op_type]):
            _start(copy, INITIAL[i], _part(work, offset, hidden))
            finals.append(work.emit("Squeeze", _final(copy, 1 + i, work, hidden), work.integers(0)))
            offset += hidden
    work.emit("Concat", *finals, output=NEXT_STATE, axis=1)
    after = {
        name: frozenset(final for starts in taken for final, start in starts.items() if start == name) for name in names
    }
    return Lifted(nodes=(*work.nodes, *copies.values()), size=size, inputs=after, values=work.values)


def carried_outputs(freed: Freed, lifted: Lifted, described: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """Return the outputs that `next_state` holds: by the name of each lifted input, the one that goes on from it."""
    makers = {name: node for node in freed.builder.nodes for name in node.output}
    shapes = {item.name: item.tensor.shape for item in freed.plan if item.initial}
    return {
        name: tensor.name
        for inner, tensor in described
        for name, finals in lifted.inputs.items()
        if tensor.shape == shapes[name] and _roots(inner, makers) == finals
    }


def _check(node: NodeProto, freed: Freed, makers: dict[str, NodeProto]) -> dict[str, str]:
    """Return the file's state inputs that a node starts from, by the final states that go on from them."""
    direction = next((item.s for item in node.attribute if item.name == "direction"), b"forward")
    if direction != b"forward":
        raise CarriedStateUnsupported(
            f"{show(node)} is {direction.decode(errors='replace')}, so it needs the sequence's end first"
        )
    if all(node is not other for other in freed.over_rows):
        raise CarriedStateUnsupported(f"{show(node)} does not run over the rows and steps of the inputs")
    states = {item.name for item in freed.plan if item.initial}
    integers = {item.name for item in freed.plan if item.datatype != "FP32"}
    taken = {}
    finals = [*node.output[1:], "", ""]
    for final, name in zip(finals, list(node.input)[INITIAL[0] : INITIAL[-1] + 1], strict=False):
        if not name or _is_zero(freed.builder.values[name], integers):
            continue
        roots = _roots(name, makers)
        if len(roots) != 1 or not roots <= states:
            raise CarriedStateUnsupported(f"{show(node)} starts from a state that is not zero and no input of the file")
        taken[final or f"final of {name}"] = roots.pop()
    return taken


def _is_zero(value: Value, integers: set[str]) -> bool:
    """Return whether a state is zero; integer inputs were 0 in the samples, so what they give may look like it."""
    return not value.sources & integers and not any(sample.any() for sample in value.samples)


def _roots(name: str, makers: dict[str, NodeProto]) -> set[str]:
    """Return what a value is made of by moving numbers about."""
    node = makers.get(name)
    if node is None:
        return {name}
    if node.op_type == "Concat":
        return set[str]().union(*(_roots(item, makers) for item in node.input))
    return _roots(node.input[0], makers) if node.op_type in REARRANGING else {name}


def _hidden(node: NodeProto, builder: Builder) -> int:
    return int(builder.values[node.input[2]].samples[0].shape[-1])


def _part(work: Builder, offset: int, hidden: int) -> str:
    part = work.emit("Slice", STATE, work.integers(offset), work.integers(offset + hidden), work.integers(1))
    return work.emit("Unsqueeze", part, work.integers(0))


def _start(node: NodeProto, position: int, name: str) -> None:
    node.input.extend([""] * (position + 1 - len(node.input)))
    node.input[position] = name


def _final(node: NodeProto, position: int, work: Builder, hidden: int) -> str:
    """Return the name of a node's final state, which the file may not have asked for."""
    node.output.extend([""] * (position + 1 - len(node.output)))
    if not node.output[position]:
        node.output[position] = f"{PREFIX}{node.name}/final{position}"
        samples = tuple(np.zeros((1, probe.batch, hidden), np.float32) for probe in PROBES)
        work.values[node.output[position]] = Value(samples)
    return node.output[position]


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy
