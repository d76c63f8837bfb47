"""Sums, means, extremes and softmaxes over time, and windows that slide over it: the padding gets a neutral value."""

import math
from typing import Any

import torch
from torch.fx import Node

from export.pytorch.rewrites.arguments import arguments_of, axes_of, give, packet_of
from export.pytorch.rewrites.writer import Writer, aten

LOWEST, HIGHEST = -math.inf, math.inf
FAINT = torch.finfo(torch.float32).min
"""Weighs nothing in a softmax and, unlike -inf, leaves no NaN where a padded step sees padded steps only."""
NEUTRAL: dict[object, float] = {
    aten.sum: 0.0,
    aten.nansum: 0.0,
    aten.prod: 1.0,
    aten.any: 0.0,
    aten.all: 1.0,
    aten.amax: LOWEST,
    aten.max: LOWEST,
    aten.argmax: LOWEST,
    aten.amin: HIGHEST,
    aten.min: HIGHEST,
    aten.argmin: HIGHEST,
    aten.logsumexp: LOWEST,
    aten.softmax: FAINT,
    aten.log_softmax: FAINT,
    aten._softmax: FAINT,  # noqa: SLF001  an operator's name
    aten._log_softmax: FAINT,  # noqa: SLF001
    aten.linalg_vector_norm: 0.0,
    aten.norm: 0.0,
}
"""What does not change the result; norms count entries of no size, whatever their order above 0."""
WINDOWS: dict[object, tuple[int, float]] = {
    aten.conv1d: (1, 0.0),
    aten.conv2d: (2, 0.0),
    aten.conv3d: (3, 0.0),
    aten.conv_transpose1d: (1, 0.0),
    aten.conv_transpose2d: (2, 0.0),
    aten.avg_pool1d: (1, 0.0),
    aten.avg_pool2d: (2, 0.0),
    aten.max_pool1d: (1, LOWEST),
    aten.max_pool2d: (2, LOWEST),
}
"""How many of the last axes windows slide over, and what lies beyond the end of a row alone."""


def reduction(writer: Writer, node: Node) -> Node | None:
    """Let a reduction cover real steps only."""
    packet = packet_of(node)
    if packet not in NEUTRAL:
        return None
    arguments = arguments_of(node)
    name = "input" if "input" in arguments else "self"
    if "dim" not in arguments and packet not in {aten.sum, aten.prod}:
        return None
    source = arguments[name]
    axes = over_time(writer, source, axes_of(arguments.get("dim"), source.meta["val"].dim()))
    if not axes or arguments.get("ord", 2) == 0:
        return None
    filled = writer.fill(source, axes, _value(NEUTRAL[packet], source.meta["val"].dtype))
    return None if filled is None else give(node, {name: filled})


def ordering(writer: Writer, node: Node) -> Node | None:
    """Let what sorts over time put the padding last."""
    if packet_of(node) not in {aten.sort, aten.argsort, aten.topk, aten.kthvalue}:
        return None
    arguments = arguments_of(node)
    source = arguments["self"]
    axes = over_time(writer, source, axes_of(arguments["dim"], source.meta["val"].dim()))
    last = LOWEST if arguments.get("descending", arguments.get("largest", False)) else HIGHEST
    filled = writer.fill(source, axes, _value(last, source.meta["val"].dtype)) if axes else None
    return None if filled is None else give(node, {"self": filled})


def over_time(writer: Writer, source: Node, axes: list[int]) -> list[int]:
    """Return those of the reduced axes that run over time; none if rows are reduced as well."""
    rows = writer.axes.row_axis(source)
    if rows is None or rows[0] in axes:
        return []
    return [axis for axis in axes if axis in writer.axes.time_axes(source)]


def _value(value: float, dtype: torch.dtype) -> float:
    if dtype.is_floating_point:
        return value
    if dtype == torch.bool or math.isfinite(value):
        return int(value > 0)
    limits = torch.iinfo(dtype)
    return limits.max if value > 0 else limits.min


def window(writer: Writer, node: Node) -> Node | None:
    """Let a convolution or pooling see beyond a row's end what it sees beyond the end of the row alone."""
    if packet_of(node) not in WINDOWS:
        return None
    arguments = arguments_of(node)
    count, value = WINDOWS[packet_of(node)]
    name = "input" if "input" in arguments else "self"
    source = arguments[name]
    rank = source.meta["val"].dim()
    axes = [axis for axis in writer.axes.time_axes(source) if axis >= rank - count]
    padding = arguments["padding"]
    if isinstance(padding, list) and not arguments.get("ceil_mode") and packet_of(node) not in TRANSPOSED:
        axes = [axis for axis in axes if padding[-1 if len(padding) == 1 else axis - rank] != 0]
    if not axes:
        return None
    filled = writer.fill(source, axes, value)
    return None if filled is None else give(node, {name: filled})


TRANSPOSED = {aten.conv_transpose1d, aten.conv_transpose2d}


def pad(writer: Writer, node: Node) -> Node | None:
    """Let constant padding of the time axis begin where each row ends."""
    if packet_of(node) not in {aten.pad, aten.constant_pad_nd}:
        return None
    arguments = arguments_of(node)
    source, sizes = arguments["self"], arguments["pad"]
    rank = source.meta["val"].dim()
    axes = [axis for axis in writer.axes.time_axes(source) if _right(sizes, rank - 1 - axis)]
    if not axes or arguments.get("mode", "constant") != "constant":
        return None
    filled = writer.fill(source, axes, arguments["value"] or 0.0)
    return None if filled is None else give(node, {"self": filled})


def _right(sizes: list[Any], from_last: int) -> bool:
    """Return whether the end of the axis that is `from_last` before the last one is padded (or cut)."""
    return 2 * from_last + 1 < len(sizes) and sizes[2 * from_last + 1] != 0
