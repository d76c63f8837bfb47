"""Means and variances over time: they divide by how many real steps a row has."""

from typing import Any

from torch.fx import Node

from export.errors import ExportError
from export.pytorch.lines import line_of_trace
from export.pytorch.rewrites.arguments import arguments_of, axes_of, packet_of
from export.pytorch.rewrites.reductions import LOWEST, over_time
from export.pytorch.rewrites.writer import Writer, aten

POOLS: dict[object, int] = {aten.adaptive_avg_pool1d: 1, aten.adaptive_avg_pool2d: 2}


def mean(writer: Writer, node: Node) -> Node | None:
    """Turn a mean over real and padded steps into one over the real ones."""
    packet = packet_of(node)
    if packet is not aten.mean and packet not in POOLS:
        return None
    arguments = arguments_of(node)
    source = arguments["self"]
    rank = source.meta["val"].dim()
    if packet in POOLS:
        axes, keepdim = list(range(rank - POOLS[packet], rank)), True
        if any(size != 1 for size in arguments["output_size"]):
            _refuse(writer, node, source, axes)
            return None
    else:
        axes, keepdim = axes_of(arguments.get("dim"), rank), arguments.get("keepdim", False)
    return _mean(writer, source, axes, keepdim=keepdim)


def _refuse(writer: Writer, node: Node, source: Node, axes: list[int]) -> None:
    """Refuse a pool of time into several parts, whose windows torch cuts from the number of steps in the trace."""
    if any(axis in writer.axes.time_axes(source) for axis in axes):
        raise ExportError(
            f"{line_of_trace(node.meta.get('stack_trace') or '')} pools time into several parts, which has no ONNX "
            "form for any number of steps; use nn.AvgPool1d or a strided convolution, or pool into one part"
        )


def largest(writer: Writer, node: Node) -> Node | None:
    """Turn the pool that gives the largest value of all steps into a maximum over the real ones."""
    if node.target is not aten.adaptive_max_pool1d.default or node.args[1] != [1]:
        return None
    source = node.args[0]
    assert isinstance(source, Node)
    axis = source.meta["val"].dim() - 1
    filled = writer.fill(source, over_time(writer, source, [axis]), LOWEST)
    return None if filled is None or filled is source else writer.put(aten.max.dim, filled, axis, True)


def _mean(writer: Writer, source: Node, axes: list[int], *, keepdim: bool) -> Node | None:
    sums = _sum(writer, source, axes, keepdim=keepdim)
    return None if sums is None else writer.put(aten.div.Tensor, sums, _count(writer, source, axes, sums))


def _sum(writer: Writer, source: Node, axes: list[int], *, keepdim: bool) -> Node | None:
    filled = writer.fill(source, over_time(writer, source, axes), 0.0)
    if filled is None or filled is source:
        return None
    return writer.put(aten.sum.dim_IntList, filled, axes, keepdim)


def _count(writer: Writer, source: Node, axes: list[int], sums: Node, less: float = 0) -> Node:
    """Return how many real entries each row has in the axes, less some, as it divides `sums`."""
    others = [axis for axis in axes if axis not in writer.axes.time_axes(source)]
    numbers: list[Any] = [writer.lengths(source.meta["val"].shape[axis]) for axis in axes if axis not in others]
    numbers += [writer.size(source, axis) for axis in others]
    count = numbers[0]
    for number in numbers[1:]:
        count = writer.put(aten.mul.Tensor, count, number)
    if less:
        count = writer.put(aten.clamp_min.default, writer.put(aten.sub.Tensor, count, less), 0)
    return writer.per_row(count, sums, like=sums)


def _variance(writer: Writer, source: Node, axes: list[int], *, keepdim: bool, less: float) -> Node | None:
    average = _mean(writer, source, axes, keepdim=True)
    if average is None:
        return None
    centred = writer.put(aten.sub.Tensor, source, average)
    squares = _sum(writer, writer.put(aten.mul.Tensor, centred, centred), axes, keepdim=keepdim)
    assert squares is not None
    return writer.put(aten.div.Tensor, squares, _count(writer, source, axes, squares, less))


def spread(writer: Writer, node: Node) -> Node | None:
    """Turn a variance or standard deviation over real and padded steps into one over the real ones."""
    packet = packet_of(node)
    if packet not in {aten.var, aten.std}:
        return None
    arguments = arguments_of(node)
    source = arguments["self"]
    correction = arguments.get("correction", int(arguments.get("unbiased", True)))
    variance = _variance(
        writer,
        source,
        axes_of(arguments.get("dim"), source.meta["val"].dim()),
        keepdim=arguments.get("keepdim", False),
        less=1 if correction is None else correction,
    )
    return variance if variance is None or packet is aten.var else writer.put(aten.sqrt.default, variance)


def normalization(writer: Writer, node: Node) -> Node | None:
    """Let a group or instance normalization take its mean and variance from real steps only."""
    packet = packet_of(node)
    if packet not in {aten.group_norm, aten.instance_norm}:
        return None
    arguments = arguments_of(node)
    source = arguments["input"]
    rank = source.meta["val"].dim()
    channels = source.meta["val"].shape[1]
    if not any(axis > 1 for axis in writer.axes.time_axes(source)) or not arguments.get("use_input_stats", True):
        return None
    groups = arguments.get("num_groups", channels)
    split = writer.put(aten.unflatten.int, source, 1, [groups, channels // groups])
    axes = list(range(2, rank + 1))
    average = _mean(writer, split, axes, keepdim=True)
    variance = _variance(writer, split, axes, keepdim=True, less=0)
    if average is None or variance is None:
        return None
    scale = writer.put(aten.rsqrt.default, writer.put(aten.add.Tensor, variance, arguments["eps"]))
    normal = writer.put(aten.mul.Tensor, writer.put(aten.sub.Tensor, split, average), scale)
    result = writer.put(aten.flatten.using_ints, normal, 1, 2)
    for name, target in (("weight", aten.mul.Tensor), ("bias", aten.add.Tensor)):
        if arguments[name] is not None:
            shaped = writer.put(aten.view.default, arguments[name], [channels, *[1] * (rank - 2)])
            result = writer.put(target, result, shaped)
    return result
