"""Constants of the file with its own number of rows or steps in them, made to follow the batch."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, helper

from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import Array, NodeFailure, show
from export.onnx_file.probing import IS_BATCH, IS_TIME, Size, read_size
from export.onnx_file.reading import RECURRENT
from export.onnx_file.reshape import Frozen, read_target

END = 2**63 - 1
"""What ONNX takes for the end of any axis."""
SEQUENCE_LENS, INITIAL = 4, (5, 6)


def free_node(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Return the node with its frozen constants replaced, or the node itself if it has none.

    Raises:
        NodeFailure: a constant cannot follow the batch.
    """
    free = FREE.get(node.op_type)
    return node if free is None else free(node, builder, frozen)


def with_inputs(node: NodeProto, inputs: dict[int, str]) -> NodeProto:
    """Return a copy of the node with other inputs at these positions."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for i, name in inputs.items():
        copy.input[i] = name
    return copy


def _reshape(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    if frozen.batch is None and frozen.time is None:
        return node
    return reshaped(node, builder, frozen) or node


def reshaped(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto | None:
    """Return a Reshape whose target follows the batch; None if its numbers have no meaning, or follow it already."""
    target = [read_size([int(number) for number in numbers]) for numbers in _elements(builder, node.input[1])]
    if any(size is None for size in target):
        return None
    plain = [size.number if not (size.batch or size.time) else size for size in target if size is not None]
    allow_zero = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
    sizes = read_target(builder.axes(node.input[0]), plain, frozen, allow_zero=allow_zero)
    if sizes is None or _unchanged(plain, sizes):
        return None
    return with_inputs(node, {1: builder.shape_of(sizes)})


def _unchanged(target: list[int | Size], sizes: list[Size | None]) -> bool:
    """Return whether the target says the same already; copied (0) and inferred (-1) axes do."""
    return all(
        item in {-1, 0} or item == size or (size is not None and not (size.batch or size.time) and size.number == item)
        for item, size in zip(target, sizes, strict=True)
    )


def _elements(builder: Builder, name: str) -> list[tuple[int, ...]]:
    samples = [sample.tolist() for sample in builder.values[name].samples]
    return list(zip(*samples, strict=True))


def _expand(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Expand, and Tile: a number where the data have 1 that is the file's batch or time becomes the real one."""
    target = builder.constant_of(node.input[1])
    if target is None:
        return node
    axes = builder.axes(node.input[0])
    numbers: list[Size | None] = []
    lead = len(target) - len(axes)
    for i, number in enumerate(target.tolist()):
        axis = axes[i - lead] if i >= lead else Size(1, batch=False, time=False)
        numbers.append(_expanded(number, axis, frozen, tile=node.op_type == "Tile"))
    if [
        size.number if size is not None and not (size.batch or size.time) else None for size in numbers
    ] == target.tolist():
        return node
    return with_inputs(node, {1: builder.shape_of(numbers)})


def _expanded(number: int, axis: Size | None, frozen: Frozen, *, tile: bool) -> Size:
    one = Size(1, batch=False, time=False)
    if axis is None or axis.batch or axis.time:
        return Size(number, batch=False, time=False) if tile else one
    if axis.number == 1 and number > 1:
        if number == frozen.time:
            return IS_TIME
        if number == frozen.batch:
            return IS_BATCH
    return Size(number, batch=False, time=False)


def _slice(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Let a slice that goes to the file's last step (or row) go to the last one there is."""
    starts, ends = (builder.constant_of(name) for name in node.input[1:3])
    if starts is None or ends is None:
        return node
    axes = builder.constant_of(node.input[3]) if len(node.input) > 3 and node.input[3] else np.arange(len(starts))
    if axes is None:
        return node
    new_starts, new_ends = starts.astype(np.int64), ends.astype(np.int64)
    sizes = builder.axes(node.input[0])
    for i, axis in enumerate(axes.tolist()):
        number = frozen.time if sizes[axis] == IS_TIME else frozen.batch if sizes[axis] == IS_BATCH else None
        if number is None or ends[i] != number:
            continue
        new_ends[i] = END
        new_starts[i] = -1 if starts[i] == number - 1 > 0 else starts[i]
    if (new_ends == ends).all():
        return node
    inputs = {1: builder.constant(new_starts), 2: builder.constant(new_ends)}
    if len(node.input) > 3 and node.input[3]:
        inputs[3] = builder.constant(axes.astype(np.int64))
    if len(node.input) > 4 and node.input[4]:
        steps = builder.constant_of(node.input[4])
        if steps is None:
            return node
        inputs[4] = builder.constant(steps.astype(np.int64))
    return with_inputs(node, inputs)


def _gather(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Let a read of the file's last step read the last one there is, and one of its only row read every row."""
    indices = builder.constant_of(node.input[1])
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    size = builder.axes(node.input[0])[axis]
    if indices is None or indices.size != 1:
        return node
    index = int(indices.reshape(()))
    if size == IS_BATCH and frozen.batch == 1 and index in {0, -1}:
        return helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name)
    if size == IS_TIME and frozen.time is not None and index == frozen.time - 1:
        return with_inputs(node, {1: builder.constant(np.full_like(indices, -1))})
    return node


def _squeeze(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Let Squeeze drop axes of one number only, whatever the batch: batch and time stay though they may be 1."""
    sizes = builder.axes(node.input[0])
    single = [axis for axis, size in enumerate(sizes) if size == Size(1, batch=False, time=False)]
    if len(node.input) < 2 or not node.input[1]:
        axes = single
    else:
        given = builder.constant_of(node.input[1])
        if given is None:
            return node
        wanted = [int(axis) % len(sizes) for axis in given]
        axes = [axis for axis in wanted if not _gone(sizes[axis], frozen)]
        if axes == wanted:
            return node
    attributes = {"name": node.name}
    if not axes:
        return helper.make_node("Identity", [node.input[0]], list(node.output), **attributes)
    return helper.make_node("Squeeze", [node.input[0], builder.integers(*axes)], list(node.output), **attributes)


def _gone(size: Size | None, frozen: Frozen) -> bool:
    """Return whether an axis has size 1 in the file only because its batch or time has."""
    return (size == IS_BATCH and frozen.batch == 1) or (size == IS_TIME and frozen.time == 1)


def _recurrent(node: NodeProto, builder: Builder, frozen: Frozen) -> NodeProto:
    """Drop constant lengths and zero initial states; let other constant states have as many rows as the batch."""
    del frozen
    inputs: dict[int, str] = {}
    for i in (SEQUENCE_LENS, *INITIAL):
        if i < len(node.input) and (array := builder.constant_of(node.input[i])) is not None:
            state = i != SEQUENCE_LENS and np.any(array)
            inputs[i] = _rows(node, array, builder) if state else ""
    return with_inputs(node, inputs) if inputs else node


def _rows(node: NodeProto, array: Array, builder: Builder) -> str:
    if array.ndim != 3 or not (array == array[:, :1]).all():
        raise NodeFailure(
            f"{show(node)} starts from a constant state of shape {list(array.shape)} with other numbers in each row, "
            "so the batch cannot be freed; make the initial state an input"
        )
    shape = [Size(array.shape[0], batch=False, time=False), IS_BATCH, Size(array.shape[2], batch=False, time=False)]
    return builder.emit("Expand", builder.constant(np.ascontiguousarray(array[:, :1])), builder.shape_of(shape))


FREE: dict[str, Callable[[NodeProto, Builder, Frozen], NodeProto]] = {
    "Reshape": _reshape,
    "Expand": _expand,
    "Tile": _expand,
    "Slice": _slice,
    "Gather": _gather,
    "Squeeze": _squeeze,
    **dict.fromkeys(RECURRENT, _recurrent),
}
