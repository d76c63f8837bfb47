"""Reads that count from the end of the batch's time axis, made to count from the end of each row."""

import numpy as np
from onnx import NodeProto

from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import Array
from export.onnx_file.probing import IS_BATCH, IS_TIME, PROBES
from export.spec import LENGTHS


def attribute(node: NodeProto, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def read_gather(node: NodeProto, builder: Builder) -> bool:
    """Let a Gather of one step from the end (index -1, or steps - 1 however computed) go by lengths."""
    data, indices = node.input
    axis = attribute(node, "axis", 0) % builder.values[data].rank
    from_end = _from_end(builder, indices)
    if from_end is None or not _by_rows(builder, data, axis):
        return False
    keep = builder.values[indices].rank == 1
    _read_step(builder, (data, axis), from_end, output=node.output[0], keep=keep)
    return True


def read_slice(node: NodeProto, builder: Builder) -> bool:
    """Replace a Slice of the last step, or of all steps backwards, by one that goes by lengths."""
    parts = _slice(node, builder)
    if parts is None:
        return False
    axis, start, end, step = parts
    if not _by_rows(builder, node.input[0], axis):
        return False
    steps = [probe.time for probe in PROBES]
    if (
        step == -1
        and all(s in {-1, n - 1} or s >= n for s, n in zip(start, steps, strict=True))
        and max(end) < -min(steps)
    ):
        _reverse(builder, node.input[0], axis, output=node.output[0])
        return True
    last = all(s in {-1, n - 1} for s, n in zip(start, steps, strict=True))
    if step == 1 and last and all(e >= n for e, n in zip(end, steps, strict=True)):
        _read_step(builder, (node.input[0], axis), -1, output=node.output[0], keep=True)
        return True
    return False


def read_reversed(node: NodeProto, builder: Builder) -> bool:
    """Give `lengths` to a ReverseSequence that was told to reverse all steps of the batch."""
    lengths = builder.values[node.input[1]]
    time = attribute(node, "time_axis", 0)
    if (
        LENGTHS in lengths.sources
        or attribute(node, "batch_axis", 1) == time
        or not _by_rows(builder, node.input[0], time)
    ):
        return False
    if not all((sample == probe.time).all() for sample, probe in zip(lengths.samples, PROBES, strict=True)):
        return False
    _reverse(builder, node.input[0], time, output=node.output[0])
    return True


def _by_rows(builder: Builder, data: str, axis: int) -> bool:
    value = builder.values[data]
    return value.axis(IS_TIME) == axis and value.axis(IS_BATCH) is not None


def _from_end(builder: Builder, indices: str) -> int | None:
    """Return the index that one number is, counted from the end of time (-1 for the last step); None if it is not."""
    value = builder.values[indices]
    if value.samples[0].size != 1 or value.rank > 1:
        return None
    numbers = [int(sample.reshape(())) for sample in value.samples]
    if len(set(numbers)) == 1:
        return numbers[0] if numbers[0] < 0 else None
    offsets = {number - probe.time for number, probe in zip(numbers, PROBES, strict=True)}
    return offsets.pop() if len(offsets) == 1 else None


def _slice(node: NodeProto, builder: Builder) -> tuple[int, list[int], list[int], int] | None:
    """Return axis, start and end at each probe, and step of a Slice of one axis; None for any other."""
    given = [builder.values[name] if name else None for name in node.input[1:]] + [None] * 4
    starts, ends, axes, steps = given[:4]
    if starts is None or ends is None or any(value is not None and value.samples[0].size != 1 for value in given):
        return None
    step = 1 if steps is None else _number(steps.samples[0])
    axis = 0 if axes is None else _number(axes.samples[0])
    return (
        axis % builder.values[node.input[0]].rank,
        [_number(sample) for sample in starts.samples],
        [_number(sample) for sample in ends.samples],
        step,
    )


def _number(array: Array) -> int:
    return int(array.reshape(()))


def _read_step(builder: Builder, over: tuple[str, int], from_end: int, *, output: str, keep: bool) -> None:
    """Emit step `lengths + from_end` of each row of a value and its time axis; with `keep`, time stays as 1."""
    data, axis = over
    value = builder.values[data]
    batch = value.axis(IS_BATCH)
    assert batch is not None
    others = [i for i in range(value.rank) if i not in {batch, axis}]
    first = builder.transpose(data, [batch, axis, *others])
    index = builder.emit("Add", LENGTHS, builder.integers(from_end))
    index = builder.emit("Max", index, builder.integers(0))
    index = builder.emit("Unsqueeze", index, builder.integers(1))
    read = builder.emit("GatherND", first, index, batch_dims=1)
    left = [batch, *others]
    order = [left.index(i) for i in sorted(left)]
    if keep:
        read = builder.transpose(read, order)
        builder.emit("Unsqueeze", read, builder.integers(axis), output=output)
    else:
        builder.transpose(read, order, output=output)


def _reverse(builder: Builder, data: str, axis: int, *, output: str) -> None:
    """Emit the real steps of each row in reverse, padding left where it is."""
    value = builder.values[data]
    batch = value.axis(IS_BATCH)
    assert batch is not None
    if {batch, axis} == {0, 1}:
        builder.emit("ReverseSequence", data, LENGTHS, output=output, batch_axis=batch, time_axis=axis)
        return
    others = [i for i in range(value.rank) if i not in {batch, axis}]
    order = [batch, axis, *others]
    turned = builder.transpose(data, order)
    turned = builder.emit("ReverseSequence", turned, LENGTHS, batch_axis=0, time_axis=1)
    builder.transpose(turned, np.argsort(order).tolist(), output=output)
