"""A tensor in another shape, or a part of it: the ONNX operators that move no value, as numpy's views."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter, methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.plan import ViewPart

Array = NDArray[Any]


def view_of(part: ViewPart) -> Callable[[Array], Array]:
    """Return what the part's operator does to dtype[...]: values stay, in the same memory where strides allow.

    The function raises ValueError if a tensor's shape does not fit the axes.
    """
    axes = part.axes or None
    match part.operator:
        case "Transpose":
            return methodcaller("transpose", axes)
        case "Squeeze":
            return methodcaller("squeeze", axes)
        case "Unsqueeze":
            return _unsqueeze(part.axes)
        case "Reshape":
            return partial(_reshape, part.axes)
        case "Slice":
            axis, start, stop = part.axes
            return itemgetter((*[slice(None)] * axis, slice(start, stop)))
        case "Identity":
            return lambda tensor: tensor


def _unsqueeze(axes: tuple[int, ...]) -> Callable[[Array], Array]:
    if min(axes) < 0:
        return partial(np.expand_dims, axis=axes)
    index = tuple(None if axis in axes else slice(None) for axis in range(max(axes) + 1))
    return itemgetter(index)  # a tenth of the time


def _reshape(sizes: tuple[int, ...], tensor: Array) -> Array:
    return tensor.reshape([size or tensor.shape[axis] for axis, size in enumerate(sizes)])
