"""The finished graph: batch-first outputs, named axes, only what is needed, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir
from onnx import ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from export.errors import ExportError
from export.model import OnnxModel
from export.onnx_file.evaluate import Array, reads
from export.onnx_file.probing import Value
from export.onnx_file.reading import ADDED, RECURRENT
from export.onnx_file.state import Lifted, carried_outputs
from export.onnx_file.walk import Freed
from export.spec import LENGTHS, NEXT_STATE, RESERVED, STATE, boundary_order
from export.vocabulary import with_vocabularies
from serving.manifest import BATCH, NUMPY_DTYPES, Datatype, Dimension, State, Tensor

DATATYPES: Mapping[np.dtype[np.generic], Datatype] = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that is still to be proven.

    Attributes:
        orders: per output, the permutation of its axes from the file's to batch-first.
        carried: the file's state inputs that `state` replaces, with the outputs to go on from; None if it has none.
    """

    model: OnnxModel
    orders: tuple[tuple[int, ...], ...]
    carried: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    nodes: Sequence[NodeProto]
    values: Mapping[str, Value]
    opsets: Sequence[OperatorSetIdProto]


def finish(freed: Freed, lifted: Lifted | None) -> Candidate:
    """Return the model as it would be written.

    Args:
        freed: the graph.
        lifted: its nodes with carried state; None for a model without.

    Raises:
        ExportError: an output has a type that no wire tensor has, or a name that the exporter adds itself.
    """
    described = [(inner, *_describe(outer, inner, freed)) for outer, inner in freed.outputs.items()]
    carried = carried_outputs(freed, lifted, [(name, tensor) for name, tensor, _ in described]) if lifted else {}
    kept = [item for item in described if item[1].name not in carried.values()] or described
    replaced = lifted.inputs if lifted else {}
    tensors = [item.tensor for item in freed.plan if not item.is_lengths and item.name not in replaced]
    _check_names([*tensors, *(tensor for _, tensor, _ in kept)])
    state = State(input=STATE, output=NEXT_STATE, size=lifted.size) if lifted else None
    nodes = [*(lifted.nodes if lifted else freed.builder.nodes), *(_outward(*item) for item in kept)]
    graph = _Graph(nodes=nodes, values=lifted.values if lifted else freed.builder.values, opsets=freed.builder.opsets)
    proto = _model(graph, tensors, [tensor for _, tensor, _ in kept], state)
    model = OnnxModel(
        content=proto.SerializeToString(deterministic=True),
        inputs=tuple(tensors),
        outputs=tuple(tensor for _, tensor, _ in kept),
        state=state,
        recurrent_nodes=tuple(node.name for node in proto.graph.node if node.op_type in RECURRENT),
    )
    return Candidate(
        model=replace(model, inputs=with_vocabularies(model)),
        orders=tuple(order for _, _, order in kept),
        carried={name: carried.get(name) for name in sorted(replaced)},
    )


def _describe(outer: str, name: str, freed: Freed) -> tuple[Tensor, tuple[int, ...]]:
    value = freed.builder.values[name]
    axes = tuple(size.dimension for size in value.axes if size is not None)
    order = boundary_order(axes)  # type: ignore[arg-type]  # the walk refused products
    dtype = value.samples[0].dtype
    if dtype not in DATATYPES:
        raise ExportError(f"output '{outer}' is {dtype}; expected one of {[str(known) for known in DATATYPES]}")
    shape: tuple[Dimension, ...] = tuple(axes[i] for i in order)  # type: ignore[misc]  # as above
    return Tensor(name=outer, datatype=DATATYPES[dtype], shape=shape), order


def _check_names(tensors: Sequence[Tensor]) -> None:
    names = [tensor.name for tensor in tensors]
    wrong = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
    if wrong:
        raise ExportError(
            f"the file's inputs and outputs {wrong} have names that occur twice or are among {sorted(RESERVED)}, which "
            "the exporter adds itself; rename them (onnx.compose, or the exporter's input_names and output_names)"
        )


def _outward(inner: str, tensor: Tensor, order: tuple[int, ...]) -> NodeProto:
    name = f"{ADDED}output/{tensor.name}"
    if list(order) == sorted(order):
        return helper.make_node("Identity", [inner], [tensor.name], name=name)
    return helper.make_node("Transpose", [inner], [tensor.name], name=name, perm=list(order))


def _model(graph: _Graph, inputs: Sequence[Tensor], outputs: Sequence[Tensor], state: State | None) -> ModelProto:
    lengths = [Tensor(name=LENGTHS, datatype="INT64", shape=(BATCH,))]
    before = [Tensor(name=state.input, datatype="FP32", shape=(BATCH, state.size))] if state else []
    after = [Tensor(name=state.output, datatype="FP32", shape=(BATCH, state.size))] if state else []
    used = sorted({name for node in graph.nodes for name in reads(node)} & graph.values.keys())
    proto = helper.make_graph(
        graph.nodes,
        "model",
        [_info(tensor) for tensor in (*inputs, *lengths, *before)],
        [_info(tensor) for tensor in (*outputs, *after)],
        [_initializer(name, value.samples[0]) for name in used if (value := graph.values[name]).constant],
    )
    model = helper.make_model(
        proto, opset_imports=graph.opsets, ir_version=helper.find_min_ir_version_for(graph.opsets)
    )
    return _cleaned(model)


def _cleaned(model: ModelProto) -> ModelProto:
    """Return the model sorted, without unused nodes and constants, and without notes (they hold the user's paths)."""
    ir = onnx_ir.from_proto(model)
    for clean in (TopologicalSortPass(), RemoveUnusedNodesPass()):
        ir = clean(ir).model
    proto = onnx_ir.to_proto(ir)
    proto.graph.ClearField("value_info")
    for node in proto.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    onnx.checker.check_model(proto)
    return proto


def _initializer(name: str, array: Array) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def _info(tensor: Tensor) -> ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(tensor.dtype)
    return helper.make_tensor_value_info(tensor.name, element, list(tensor.shape))
