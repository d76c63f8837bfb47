"""The file's outputs: rows and steps that it merged into one axis are taken apart, and each must have a batch."""

from collections.abc import Iterator

from onnx import NodeProto

from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import NodeFailure, show
from export.onnx_file.probing import IS_BATCH, IS_TIME, Size, Value
from export.onnx_file.reading import PREFIX


def describe(value: Value) -> str:
    """Return a value's axes as messages show them, such as `[batch,time,5]`."""
    return f"[{','.join(map(_name, value.axes))}]"


def open_output(name: str, builder: Builder) -> str:
    """Return the value that holds a file's output with batch and time as axes of their own.

    Raises:
        NodeFailure: it has no batch, several axes of time, or axes that are neither nor a number.
    """
    axes = builder.axes(name)
    merged = Size(1, batch=True, time=True)
    if axes.count(merged) == 1 and IS_BATCH not in axes and IS_TIME not in axes:
        name = _taken_apart(name, axes.index(merged), builder)
    axes = builder.axes(name)
    unknown = any(size is None or size.dimension is None for size in axes)
    if unknown or axes.count(IS_BATCH) != 1 or axes.count(IS_TIME) > 1:
        raise NodeFailure(
            f"output '{name.removeprefix(PREFIX)}' has the axes {describe(builder.values[name])}; expected batch once, "
            f"time at most once, and numbers{_where_lost(name, builder)}"
        )
    return name


def _taken_apart(name: str, axis: int, builder: Builder) -> str:
    """Return an output whose merged axis is two again, in the order in which they were before they were merged."""
    for node in _before(name, builder):
        for value in (builder.values[item] for item in node.input if item):
            batch, time = value.axis(IS_BATCH), value.axis(IS_TIME)
            if batch is not None and time is not None:
                apart = [IS_BATCH, IS_TIME] if batch < time else [IS_TIME, IS_BATCH]
                axes = builder.axes(name)
                return builder.emit("Reshape", name, builder.shape_of([*axes[:axis], *apart, *axes[axis + 1 :]]))
    return name


def _where_lost(name: str, builder: Builder) -> str:
    """Return which node before an output had an axis of the batch last."""
    for node in _before(name, builder):
        inputs = [builder.values[item] for item in node.input if item]
        if any(IS_BATCH in value.axes for value in inputs):
            return f". {show(node)} takes {[describe(value) for value in inputs]}"
    return ""


def _before(name: str, builder: Builder) -> Iterator[NodeProto]:
    """Yield the nodes that an output is computed by, nearest first."""
    makers = {output: node for node in builder.nodes for output in node.output}
    waiting, seen = [name], set[str]()
    while waiting:
        node = makers.get(waiting.pop(0))
        if node is not None and node.name not in seen:
            seen.add(node.name)
            yield node
            waiting += [item for item in node.input if item]


def _name(size: Size | None) -> str:
    if size is None:
        return "?"
    parts = [str(size.number)] if size.number != 1 or not (size.batch or size.time) else []
    return "*".join(parts + ["batch"] * size.batch + ["time"] * size.time)
