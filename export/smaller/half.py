"""FP32 ONNX to FP16 for GPUs, with onnxruntime's own converter.

FP32 stay: inputs, outputs and the state on the graph's boundary, softmax, normalizations and reductions. The ONNX LSTM
has one type for its weights and its cell state, and onnxruntime gives cuDNN that type for the arithmetic as well
(core/providers/cuda/rnn/cudnn_rnn_base.h), so FP16 recurrent layers hold their cell state in FP16 between steps. What
that costs is measured on long sequences; where it is too much, recurrent layers stay FP32 and only the rest changes.
"""

import dataclasses

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from export.errors import ExportError
from export.graphs import all_constants, name_nodes, subgraphs
from export.model import OnnxModel
from export.smaller.coverage import RECURRENT
from serving.manifest import State

IN_FP32 = (
    "Softmax",
    "LogSoftmax",
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LpNormalization",
    "GlobalAveragePool",
    "AveragePool",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
"""Operators that add up many values or exponentials, beside those that the converter leaves alone by itself."""
LARGEST = float(np.finfo(np.float16).max)


def to_half(model: OnnxModel, *, float_state: bool) -> OnnxModel:
    """Return the model in FP16; inputs, outputs and state keep their types.

    Args:
        model: FP32.
        float_state: leave recurrent layers, and so their cell state, in FP32.

    Raises:
        ExportError: the model has a loop or a branch, in which the converter misplaces its casts.
    """
    proto = onnx.load_from_string(model.content)
    inner = sorted({node.op_type for node in proto.graph.node if any(subgraphs(node))})
    if inner:
        raise ExportError(
            f"the model has {', '.join(inner)} (a decoder that runs in the graph): onnxruntime's FP16 converter puts "
            "casts for what is inside outside of it. Serve the FP32 version on the GPU"
        )
    name_nodes(proto.graph)
    blocked = [*DEFAULT_OP_BLOCK_LIST, *IN_FP32, *(RECURRENT if float_state else ())]
    path = _state_path(proto.graph, model.state) if float_state and model.state is not None else []
    converted = convert_float_to_float16(proto, keep_io_types=True, op_block_list=blocked, node_block_list=path)
    _join_casts(converted.graph)
    whole = ONNXModel(converted)
    whole.topological_sort()  # the converter appends its casts
    half: ModelProto = whole.model
    onnx.checker.check_model(half)
    return dataclasses.replace(model, content=half.SerializeToString(deterministic=True))


def _state_path(graph: GraphProto, state: State) -> list[str]:
    """Return the nodes between recurrent layers and the state on the boundary, which would round it on its way."""
    found: list[str] = []
    for start, side, other in ((state.input, "input", "output"), (state.output, "output", "input")):
        pending = [start]
        while pending:
            name = pending.pop()
            for node in graph.node:
                if name in getattr(node, side) and node.op_type not in RECURRENT and node.name not in found:
                    found.append(node.name)
                    pending += getattr(node, other)
    return found


def _join_casts(graph: GraphProto) -> None:
    """Take out the converter's casts to FP16 and straight back, between two nodes that both compute in FP32."""
    to_half = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and _is_converters(node.name)
    }
    outputs = {value.name for value in graph.output}
    joined = {}
    for node in graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT and node.input[0] in to_half:
            source = to_half[node.input[0]]
            if node.output[0] in outputs:
                node.CopyFrom(helper.make_node("Identity", [source], list(node.output), name=node.name))
            else:
                joined[node.output[0]] = source
    for node in graph.node:
        node.input[:] = [joined.get(name, name) for name in node.input]
    read = {name for node in graph.node for name in node.input} | outputs
    for node in [node for node in graph.node if node.op_type == "Cast" and not set(node.output) & read]:
        graph.node.remove(node)


def _is_converters(name: str) -> bool:
    """Return whether a Cast is one that the converter added from FP32 to FP16; the model's own may start elsewhere."""
    return name.endswith("_cast_to_fp16_node") or name.startswith("graph_input_cast")


def clipped_constants(content: bytes) -> tuple[str, ...]:
    """Return the names of finite constants of an FP32 file that FP16 cannot hold and that are clipped to its range."""
    return tuple(
        name
        for name, tensor in all_constants(onnx.load_from_string(content).graph).items()
        if tensor.data_type == TensorProto.FLOAT and _leaves_range(numpy_helper.to_array(tensor))
    )


def _leaves_range(values: np.ndarray) -> bool:
    return bool((np.isfinite(values) & (np.abs(values) > LARGEST)).any())
