"""PyTorch to ONNX: one graph, batch-first on its boundary, free in batch and time, with `lengths` and maybe a state."""

import dataclasses
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto
from torch import nn
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from export.errors import ExportError
from export.model import OnnxModel
from export.pytorch.lines import line_of_trace
from export.pytorch.recurrent import NODE_NAME, OPERATORS, Observed
from export.pytorch.rewrites import make_batch_first, read_by_lengths
from export.pytorch.trace import Trace, trace
from export.spec import LENGTHS, NEXT_STATE, STATE, ExportSpec
from export.vocabulary import with_vocabularies
from serving.manifest import BATCH, TIME, Dimension, State, Tensor

OPSET = 20
"""Has every operator in use, and is understood by onnxruntime from 1.17 on."""
MAX_BYTES = 2**31 - 1
"""Protobuf's limit of one message."""

STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Key of a node's metadata, by torch.onnx."""
_TRANSLATED = re.compile(r"translating node %(?P<node>\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The ONNX model, and how the outputs of `forward` become its outputs.

    Attributes:
        orders: per output, the permutation of its axes from what `forward` gives to batch-first.
        reads_by_lengths: lines of the user's whose reads over time now go by `lengths`, once per operation.
        lines: lines of the user's by the graph's tensors that they make.
    """

    model: OnnxModel
    orders: tuple[tuple[int, ...], ...]
    reads_by_lengths: tuple[str, ...]
    lines: Mapping[str, str]


def to_onnx(
    model: nn.Module,
    spec: ExportSpec,
    *,
    lengths_parameter: str | None,
    observed: Observed,
    carry_state: bool,
) -> Exported:
    """Return the model as ONNX; arguments and errors are those of `trace`, and outputs must have a form on the wire."""
    traced = trace(model, spec, lengths_parameter=lengths_parameter, observed=observed, carry_state=carry_state)
    replaced = read_by_lengths(traced.program, traced.axes)
    described = make_batch_first(traced.program, traced.axes, traced.outputs)
    state = None
    if traced.state_size is not None:
        state = State(input=STATE, output=NEXT_STATE, size=traced.state_size)
    names = [model_input.name for model_input in spec.inputs]
    proto = _lower(
        traced,
        [*names, LENGTHS, *([STATE] if state else [])],
        [*traced.outputs, *([NEXT_STATE] if state else [])],
    )
    inputs, outputs = [model_input.tensor for model_input in spec.inputs], [tensor for tensor, _ in described]
    lines = _lines(proto.graph)
    nodes = _finish(proto, traced, [*inputs, *outputs])
    if proto.ByteSize() > MAX_BYTES:
        raise ExportError(f"the ONNX file would have {proto.ByteSize()} bytes; one file can hold {MAX_BYTES}")
    exported = OnnxModel(
        content=proto.SerializeToString(deterministic=True),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        state=state,
        recurrent_nodes=nodes,
    )
    return Exported(
        model=dataclasses.replace(exported, inputs=with_vocabularies(exported)),
        orders=tuple(order for _, order in described),
        reads_by_lengths=replaced,
        lines=lines,
    )


def _lower(traced: Trace, inputs: list[str], outputs: list[str]) -> ModelProto:
    try:
        with _quiet():
            program = torch.onnx.export(
                traced.program, input_names=inputs, output_names=outputs, opset_version=OPSET, verbose=False
            )
    except Exception as error:
        raise ExportError(f"an operator of forward has no ONNX form: {_untranslated(error, traced.program)}") from error
    assert program is not None
    _part_names(program, {*inputs, *outputs})
    return program.model_proto


def _part_names(program: ONNXProgram, names: set[str]) -> None:
    """Rename inner tensors that have the name of an input or output: torch.onnx names them after operators."""
    outer = {id(value) for value in (*program.model.graph.inputs, *program.model.graph.outputs)}
    for node in program.model.graph.all_nodes():
        for value in node.outputs:
            if value.name in names and id(value) not in outer:
                value.name = f"{value.name}.inner"


def _untranslated(error: BaseException, program: ExportedProgram) -> str:
    """Return the user's line, the operator and the innermost reason."""
    where = ""
    nodes = {node.name: node for node in program.graph.nodes}
    reason: BaseException = error
    while (cause := reason.__cause__) is not None:
        match = _TRANSLATED.search(str(cause))
        if match is not None and match["node"] in nodes:
            node = nodes[match["node"]]
            where = f"{node.target} at {line_of_trace(node.meta.get('stack_trace') or '')}: "
        reason = cause
    return where + str(reason).strip().splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notes on its own internals from the user: missing torchvision, a deprecated pytree call."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _lines(graph: GraphProto) -> dict[str, str]:
    """Return the user's line of each tensor that has one."""
    traces = {name: _property(node, STACK_TRACE) for node in graph.node for name in node.output}
    return {name: line for name, trace in traces.items() if (line := line_of_trace(trace or "")) is not None}


def _property(node: NodeProto, key: str) -> str | None:
    return next((prop.value for prop in node.metadata_props if prop.key == key), None)


def _finish(proto: ModelProto, traced: Trace, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """Check the graph, name its axes and recurrent nodes, and take out torch's notes (they hold the user's paths).

    Returns:
        The names of the recurrent nodes: those that forward ran, less repeated or unused ones that torch dropped.
    """
    graph = proto.graph
    symbols = {traced.axes.batch: BATCH, traced.axes.time: TIME}
    for value in (*graph.input, *graph.output, *graph.value_info):
        _name_axes(value, symbols)
    shapes: dict[str, tuple[Dimension, ...]] = {tensor.name: tensor.shape for tensor in tensors}
    for value in (*graph.input, *graph.output):
        _check_free(value, shapes.get(value.name, ("batch",)))
    weights = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        layer = _property(node, NODE_NAME)
        if layer is not None:
            node.name = layer
        if node.op_type in OPERATORS:
            found.append(node.name)
            if not {node.input[1], node.input[2]} <= weights:
                raise ExportError(f"the weights of '{node.name}' are not constants of the graph; this is a bug")
    if not set(found) <= set(traced.nodes) or bool(found) != bool(traced.nodes):
        raise ExportError(f"the graph has the recurrent nodes {found}, forward ran {list(traced.nodes)}; this is a bug")
    _strip(graph)
    onnx.checker.check_model(proto)
    return tuple(found)


def _name_axes(value: ValueInfoProto, symbols: Mapping[str, str]) -> None:
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param in symbols:
            dim.dim_param = symbols[dim.dim_param]


def _check_free(value: ValueInfoProto, shape: Sequence[Dimension]) -> None:
    found = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if any(isinstance(axis, str) and size != axis for axis, size in zip(shape, found, strict=False)):
        raise ExportError(f"'{value.name}' has the axes {found} in the file, expected {list(shape)}; this is a bug")


def _strip(graph: GraphProto) -> None:
    for holder in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
