"""One node at a time in onnxruntime: what it gives for sample arrays, and its error if it cannot run on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, OperatorSetIdProto, TensorProto, helper

from export.errors import ExportError
from export.graphs import subgraphs

Array = NDArray[Any]
FATAL_ONLY = 4
IR_VERSION = 10
"""Of the one-node models: understood by onnxruntime from 1.18 on."""


MAX_VALUES = 2**26
"""Of one result (256 MiB of float32): at the few rows and steps of a probe, more is the work of a damaged number."""


class NodeFailure(ExportError):  # noqa: N818  named for what the user sees
    """A node cannot run on the sizes it is given."""


def show(node: NodeProto) -> str:
    """Return how messages name a node: its name and operator."""
    return f"node '{node.name}' ({node.op_type})"


def first_line(error: Exception) -> str:
    """Return what a library says first; onnxruntime's messages go on with its own source lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("[ONNXRuntimeError] : ")[:300]


def reads(node: NodeProto) -> list[str]:
    """Return the names of all values that a node reads, also those that its subgraphs take from outside."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        outer = [name for inner in graph.node for name in reads(inner)] + [value.name for value in graph.output]
        names += [name for name in outer if name not in own]
    return list(dict.fromkeys(names))


def evaluate(
    node: NodeProto, feeds: Sequence[Mapping[str, Array]], opsets: Sequence[OperatorSetIdProto]
) -> list[dict[str, Array]]:
    """Return the node's outputs by name for each feed.

    Args:
        node: whose attributes and subgraphs are complete.
        feeds: arrays of the names in `reads(node)`; those of one name have one dtype and rank in all feeds.
        opsets: of the model.

    Raises:
        NodeFailure: onnxruntime does not know the operator or cannot run it on these arrays, or it gives no tensor, or
            one beyond `MAX_VALUES`.
    """
    largest = max((_count(node, feed) for feed in feeds), default=0.0)
    if largest > MAX_VALUES:
        raise NodeFailure(f"{show(node)} makes {largest:,.0f} values; expected {MAX_VALUES:,} at most")
    names = [name for name in node.output if name]
    inputs = [
        helper.make_tensor_value_info(name, _type(array), [None] * array.ndim) for name, array in feeds[0].items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    graph = helper.make_graph([node], "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise NodeFailure(f"{show(node)} fails: {first_line(error)}") from error
    for name, value in results[0].items():
        if not isinstance(value, np.ndarray):
            raise NodeFailure(f"{show(node)} gives '{name}', which is no tensor; sequences and maps are not supported")
    return results


def _count(node: NodeProto, feed: Mapping[str, Array]) -> float:
    """Return how many values an operator that takes its result's size from numbers makes; 0 for any other."""
    numbers = [np.asarray(feed[name]) for name in node.input if name]
    match node.op_type:
        case "ConstantOfShape":
            return float(np.prod(numbers[0], dtype=float))
        case "Expand":
            return float(np.prod(numbers[1], dtype=float))
        case "Tile":
            return float(numbers[0].size * np.prod(numbers[1], dtype=float))
        case "Range":
            start, limit, delta = (float(number.reshape(())) for number in numbers)
            return (limit - start) / delta if delta else 0.0
    return 0.0


def _type(array: Array) -> int:
    if array.dtype == object:
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
