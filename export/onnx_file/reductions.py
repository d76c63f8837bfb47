"""Sums, means, extremes, softmaxes and windows over time: padding gets a value that does not count."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from export.onnx_file.builder import Builder
from export.onnx_file.frozen import with_inputs
from export.onnx_file.probing import IS_BATCH, IS_TIME
from export.onnx_file.reads import attribute
from export.spec import LENGTHS

LOWEST, HIGHEST = "lowest", "highest"
Neutral = float | str
REDUCTIONS: dict[str, Neutral] = {
    "ReduceSum": 0,
    "ReduceSumSquare": 0,
    "ReduceL1": 0,
    "ReduceL2": 0,
    "ReduceProd": 1,
    "ReduceMax": LOWEST,
    "ReduceMin": HIGHEST,
    "ReduceLogSumExp": LOWEST,
    "ReduceLogSum": 0,
}
ALONG_AXIS: dict[str, tuple[Neutral, int]] = {
    "Softmax": (LOWEST, -1),
    "LogSoftmax": (LOWEST, -1),
    "Hardmax": (LOWEST, -1),
    "ArgMax": (LOWEST, 0),
    "ArgMin": (HIGHEST, 0),
}
"""Neutral value and default axis."""
WINDOWS: dict[str, Neutral] = {"Conv": 0, "ConvTranspose": 0, "MaxPool": LOWEST, "AveragePool": 0, "LpPool": 0}


def mask_reduction(node: NodeProto, builder: Builder) -> bool:
    """Let a reduction over time cover real steps only."""
    time = _time(builder, node.input[0], _axes(node, builder))
    return time is not None and _masked(node, builder, REDUCTIONS[node.op_type], time)


def mask_mean(node: NodeProto, builder: Builder) -> bool:
    """Turn a mean over time into the sum of real steps divided by how many they are."""
    pool = node.op_type == "GlobalAveragePool"
    data = builder.values[node.input[0]]
    axes = list(range(2, data.rank)) if pool else _axes(node, builder)
    time = _time(builder, node.input[0], axes)
    if axes is None or time is None:
        return False
    keep = 1 if pool else attribute(node, "keepdims", 1)
    filled = _fill(builder, node.input[0], 0, time)
    if filled is None:
        return False
    total = builder.emit("ReduceSum", filled, builder.integers(*axes), keepdims=keep)
    others = [size.number for axis in axes if (size := data.axes[axis]) is not None and size != IS_TIME]
    count = builder.emit("Mul", LENGTHS, builder.integers(int(np.prod(others)))) if others else LENGTHS
    count = builder.emit("CastLike", count, total)
    rows, rank = builder.values[total].axis(IS_BATCH), builder.values[total].rank
    beside = [axis for axis in range(rank) if axis != rows]
    if beside:
        count = builder.emit("Unsqueeze", count, builder.integers(*beside))
    builder.emit("Div", total, count, output=node.output[0])
    return True


def mask_max_pool(node: NodeProto, builder: Builder) -> bool:
    """Let a GlobalMaxPool over time see real steps only."""
    time = _time(builder, node.input[0], list(range(2, builder.values[node.input[0]].rank)))
    return time is not None and _masked(node, builder, LOWEST, time)


def mask_along_axis(node: NodeProto, builder: Builder) -> bool:
    """Let a softmax or a search along time see real steps only."""
    neutral, default = ALONG_AXIS[node.op_type]
    axis = attribute(node, "axis", default) % builder.values[node.input[0]].rank
    time = _time(builder, node.input[0], [axis])
    return time is not None and _masked(node, builder, neutral, time)


def mask_window(node: NodeProto, builder: Builder) -> bool:
    """Let a convolution or pooling see beyond a row's end what it sees beyond the end of the row alone."""
    time = builder.values[node.input[0]].axis(IS_TIME)
    return time is not None and time >= 2 and _masked(node, builder, WINDOWS[node.op_type], time)


def mask_pad(node: NodeProto, builder: Builder) -> bool:
    """Let constant padding of the time axis begin where each row ends."""
    time, value = builder.values[node.input[0]].axis(IS_TIME), 0.0
    mode = next((item.s for item in node.attribute if item.name == "mode"), b"constant")
    if time is None or mode != b"constant":
        return False
    if len(node.input) > 2 and node.input[2]:
        given = builder.constant_of(node.input[2])
        if given is None:
            return False
        value = float(given.reshape(()))
    return _masked(node, builder, value, time)


def _axes(node: NodeProto, builder: Builder) -> list[int] | None:
    """Return the reduced axes; None if they are not known, or are all of them."""
    given = builder.constant_of(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    if given is None or not given.size:
        return None
    rank = builder.values[node.input[0]].rank
    return [int(axis) % rank for axis in given]


def _time(builder: Builder, data: str, axes: list[int] | None) -> int | None:
    """Return the one of the axes that is time; None if there is not one, or rows are among them."""
    sizes = builder.axes(data)
    chosen = [sizes[axis] for axis in axes or ()]
    if chosen.count(IS_TIME) != 1 or any(size is None or size.batch for size in chosen):
        return None
    return next(axis for axis in axes or () if sizes[axis] == IS_TIME)


def _masked(node: NodeProto, builder: Builder, neutral: Neutral, time: int) -> bool:
    filled = _fill(builder, node.input[0], neutral, time)
    if filled is None:
        return False
    builder.add(with_inputs(node, {0: filled}))
    return True


def _fill(builder: Builder, data: str, neutral: Neutral, time: int) -> str | None:
    """Return the value with its padding along `time` replaced; None if it has not the batch's axis once."""
    mask = builder.real(data, time)
    if mask is None:
        return None
    dtype = builder.values[data].samples[0].dtype
    if dtype.kind not in "fiu":
        return None
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    number = {LOWEST: limits.min, HIGHEST: limits.max}.get(str(neutral), neutral)
    return builder.emit("Where", mask, data, builder.constant(np.array(number, dtype)))


MASKS: dict[str, Callable[[NodeProto, Builder], bool]] = {
    **dict.fromkeys(REDUCTIONS, mask_reduction),
    "ReduceMean": mask_mean,
    "GlobalAveragePool": mask_mean,
    "GlobalMaxPool": mask_max_pool,
    **dict.fromkeys(ALONG_AXIS, mask_along_axis),
    **dict.fromkeys(WINDOWS, mask_window),
    "Pad": mask_pad,
}
