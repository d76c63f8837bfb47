"""Nodes that cannot run with batch and time free, in a form that can, if their constants allow it."""

import numpy as np
from onnx import NodeProto, helper

from export.onnx_file.builder import Builder
from export.onnx_file.frozen import reshaped, with_inputs
from export.onnx_file.probing import Size, Value
from export.onnx_file.reads import attribute
from export.onnx_file.reshape import Frozen

BROADCAST = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Less", "Greater", "Equal", "And", "Or", "Max", "Min", "Expand"}
)


def rescue_node(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto | None:
    """Return another form of a node that failed; None if there is none."""
    if node.op_type == "Reshape":
        return reshaped(node, builder, frozen)
    if node.op_type == "Concat":
        return _widened(node, builder)
    if node.op_type == "Gemm":
        return _multiplied(node, builder)
    return _narrowed(node, builder) if node.op_type in BROADCAST else None


def _narrowed(node: NodeProto, builder: Builder) -> NodeProto | None:
    """Shrink the axes of constants that hold one number over and over, so that they broadcast."""
    inputs = {}
    for i, name in enumerate(node.input):
        array = builder.constant_of(name)
        if array is None or (node.op_type == "Expand" and i > 0):
            continue
        narrow = array
        for axis in range(array.ndim):
            first = narrow.take([0], axis=axis) if narrow.shape[axis] > 1 else narrow
            narrow = first if (narrow == first).all() else narrow
        if narrow.shape != array.shape:
            inputs[i] = builder.constant(np.ascontiguousarray(narrow))
    return with_inputs(node, inputs) if inputs else None


def _multiplied(node: NodeProto, builder: Builder) -> NodeProto | None:
    """Turn a Gemm of what has kept its axis of rows or steps into a MatMul and an Add, which take any rank."""
    attributes = {item.name: item.f if item.name in {"alpha", "beta"} else item.i for item in node.attribute}
    weight = builder.constant_of(node.input[1])
    factors = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0), attributes.get("transA", 0))
    if weight is None or factors != (1.0, 1.0, 0):
        return None
    turned = np.ascontiguousarray(weight.T) if attributes.get("transB", 0) else weight
    product = builder.emit("MatMul", node.input[0], builder.constant(turned))
    if len(node.input) < 3 or not node.input[2]:
        return helper.make_node("Identity", [product], list(node.output), name=node.name)
    return helper.make_node("Add", [product, node.input[2]], list(node.output), name=node.name)


def _widened(node: NodeProto, builder: Builder) -> NodeProto | None:
    """Give constants that are joined to a batch its rows and steps, if theirs are all the same."""
    values = [builder.values[name] for name in node.input]
    pattern = next((value for value in values if not value.constant), None)
    if pattern is None or any(size is None for size in pattern.axes):
        return None
    along = attribute(node, "axis", 0) % pattern.rank
    inputs = {
        i: name
        for i, value in enumerate(values)
        if value.constant and (name := _wide(builder, value, pattern, along)) is not None
    }
    return with_inputs(node, inputs) if inputs else None


def _wide(builder: Builder, value: Value, pattern: Value, along: int) -> str | None:
    array, shape = value.samples[0], list[Size | None]()
    for axis, size in enumerate(pattern.axes):
        number = Size(array.shape[axis], batch=False, time=False)
        follows = axis != along and size is not None and (size.batch or size.time)
        if follows:
            first = array.take([0], axis=axis)
            if not (array == first).all():
                return None
            array = first
        shape.append(size if follows else number)
    return builder.emit("Expand", builder.constant(np.ascontiguousarray(array)), builder.shape_of(shape))
