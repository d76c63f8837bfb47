"""Reads at places that are counted from the end, or made of the number of steps: they go by `lengths`."""

import torch
from torch.fx import Node

from export.pytorch.rewrites.arguments import arguments_of, axes_of, packet_of
from export.pytorch.rewrites.writer import Writer, aten

ARITHMETIC = {aten.add, aten.sub, aten.mul, aten.div, aten.floor_divide, aten.pow, aten.remainder}


def step(writer: Writer, node: Node) -> Node | None:
    """Turn `y[:, -1]`, `y[:, y.size(1) - 1]` or `y[:, y.size(1) // 2]` into a gather where each row has that step."""
    if node.target is not aten.select.int:
        return None
    source, axis, index = node.args
    assert isinstance(source, Node)
    assert isinstance(axis, int)
    axis %= source.meta["val"].dim()
    place = _place(writer, source, axis, index)
    if place is None:
        return None
    taken = writer.take(source, axis, writer.put(aten.unsqueeze.default, place, 1))
    return None if taken is None else writer.put(aten.squeeze.dim, taken, axis)


def _place(writer: Writer, source: Node, axis: int, index: object) -> Node | None:
    """Return int64[batch] of where each row has what `index` means; None if it is the same in all rows."""
    size = source.meta["val"].shape[axis]
    if writer.axes.steps(size) is None:
        return None
    if isinstance(index, int):
        return writer.put(aten.add.Tensor, writer.lengths(size), index) if index < 0 else None
    if isinstance(index, Node) and writer.axes.steps(index.meta["val"]) is not None:
        return writer.lengths(index.meta["val"])
    return None


def part(writer: Writer, node: Node) -> Node | None:
    """Turn `y[:, -1:]` and `y[:, time // 2:]` into a gather of each row's own; a slice from a fixed step is right."""
    if node.target is not aten.slice.Tensor:
        return None
    arguments = arguments_of(node)
    source, axis = arguments["self"], arguments["dim"] % arguments["self"].meta["val"].dim()
    start = _place(writer, source, axis, arguments["start"])
    if start is None:
        return None
    size = node.meta["val"].shape[axis]
    if isinstance(size, int) and size > 1:
        return None  # how many steps there are of a row shorter than that, no gather can tell
    count = size if isinstance(size, int) else writer.size(writer.put(node.target, *node.args), axis)
    steps = writer.put(aten.mul.Tensor, writer.put(aten.arange.default, count), arguments["step"])
    start = writer.put(aten.unsqueeze.default, start, 1)
    return _taken(writer, source, axis, writer.put(aten.add.Tensor, start, steps))


def _taken(writer: Writer, source: Node, axis: int, index: Node) -> Node | None:
    """Return the entries at an index that may leave the axis in the padding, where any entry will do."""
    last = writer.put(aten.sub.Tensor, writer.put(aten.full_like.default, index, 0), 1)
    last = writer.put(aten.add.Tensor, last, writer.size(source, axis))
    index = writer.put(aten.minimum.default, writer.put(aten.clamp_min.default, index, 0), last)
    return writer.take(source, axis, index)


def reversal(writer: Writer, node: Node) -> Node | None:
    """Let a flip or roll move each row's real steps only, and leave the padding at the end."""
    if packet_of(node) not in {aten.flip, aten.roll}:
        return None
    arguments = arguments_of(node)
    source, dims = arguments["self"], axes_of(arguments["dims"], arguments["self"].meta["val"].dim())
    shifts = arguments.get("shifts", [0] * len(dims))
    shifts = [shifts] if isinstance(shifts, int) else shifts
    moved = [axis for axis in dims if axis in writer.axes.time_axes(source)]
    if not moved or not arguments["dims"] or writer.axes.row_axis(source) is None:
        return None
    result: Node = source
    for axis, shift in zip(dims, shifts, strict=True):
        if axis in moved:
            taken = _moved(writer, result, axis, None if packet_of(node) is aten.flip else shift)
            assert taken is not None
            result = taken
        elif packet_of(node) is aten.flip:
            result = writer.put(aten.flip.default, result, [axis])
        else:
            result = writer.put(aten.roll.default, result, [shift], [axis])
    return result


def _moved(writer: Writer, source: Node, axis: int, shift: int | None) -> Node | None:
    """Return the tensor with each row's real steps shifted in a ring, or reversed if `shift` is None."""
    ends = writer.put(aten.unsqueeze.default, writer.lengths(source.meta["val"].shape[axis]), 1)
    positions = writer.put(aten.arange.default, writer.size(source, axis))
    if shift is None:
        index = writer.put(aten.sub.Tensor, writer.put(aten.sub.Tensor, ends, 1), positions)
    else:
        index = writer.put(aten.remainder.Tensor, writer.put(aten.sub.Tensor, positions, shift), ends)
    real = writer.put(aten.lt.Tensor, positions, ends)
    return writer.take(source, axis, writer.put(aten.where.self, real, index, positions))


def number_of_steps(writer: Writer, node: Node) -> Node | None:
    """Turn `y.sum(1) / y.size(1)` into a division by each row's own steps; also sums, products, powers of it."""
    if packet_of(node) not in ARITHMETIC:
        return None
    arguments = arguments_of(node)
    tensor, number = arguments["self"], arguments.get("other", arguments.get("exponent"))
    if not isinstance(number, Node) or not isinstance(tensor, Node):
        return None
    if writer.axes.steps(number.meta["val"]) is None or writer.axes.row_axis(tensor) is None:
        return None
    numbers = writer.per_row(writer.lengths(number.meta["val"]), tensor)
    others = {key: arguments[key] for key in ("alpha", "rounding_mode") if key in arguments}
    overload = "Tensor_mode" if "rounding_mode" in others else "Tensor_Tensor" if packet_of(node) is aten.pow else None
    target = node.target if overload is None else getattr(packet_of(node), overload)
    return writer.put(target, tensor, numbers, **others)


def layer(writer: Writer, node: Node) -> Node | None:
    """Give a recurrent layer over a size made of steps (after a strided convolution) its rows' own lengths."""
    if "symbolic_multi_out" not in str(node.target):
        return None
    inputs = list(node.args[0])  # type: ignore[arg-type]
    steps = inputs[0]
    if len(inputs) < 5 or inputs[4] is not None or steps.meta["val"].dim() != 3:
        return None
    rows = writer.axes.row_axis(steps)
    size = steps.meta["val"].shape[0]
    if rows is None or rows[0] != 1 or writer.axes.steps(size) is None:
        return None
    lengths = writer.spread(writer.lengths(size), (0,), 1, rows[1])
    inputs[4] = writer.put(aten.to.dtype, lengths, torch.int32)
    node.update_arg(0, inputs)
    return node
