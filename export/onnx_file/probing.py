"""Sizes of batch and time at which nodes are run, and what the numbers that come out say about the axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from export.onnx_file.evaluate import Array
from serving.manifest import BATCH, TIME, Dimension


class Probe(NamedTuple):
    """Rows and steps of one run."""

    batch: int
    time: int


PROBES = (Probe(2, 24), Probe(3, 24), Probe(2, 31))
"""Batch alone differs in the second, time alone in the third; far enough apart to show through a stride of 4."""


class Size(NamedTuple):
    """Length of an axis: `number`, times the batch's rows, times the steps."""

    number: int
    batch: bool
    time: bool

    @property
    def dimension(self) -> Dimension | None:
        """`batch`, `time` or the number; None for a product."""
        names = ([BATCH] if self.batch else []) + ([TIME] if self.time else [])
        if not names:
            return self.number
        return names[0] if len(names) == 1 and self.number == 1 else None  # type: ignore[return-value]  # the literals


IS_BATCH = Size(1, batch=True, time=False)
IS_TIME = Size(1, batch=False, time=True)


def read_size(numbers: Sequence[int]) -> Size | None:
    """Return what a number stands for, given its value at each of `PROBES`; None if it is no product of the two."""
    first, other_batch, other_time = numbers
    batch, time = other_batch != first, other_time != first
    fits_batch = not batch or other_batch * PROBES[0].batch == first * PROBES[1].batch
    fits_time = not time or other_time * PROBES[0].time == first * PROBES[2].time
    unit = (PROBES[0].batch if batch else 1) * (PROBES[0].time if time else 1)
    if not (fits_batch and fits_time) or first % unit:
        return None
    return Size(first // unit, batch=batch, time=time)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph.

    Attributes:
        samples: the array at each of `PROBES`.
        sources: the graph's inputs that its numbers, and not only its shape, are computed from.
        constant: its numbers are known without any input.
    """

    samples: tuple[Array, ...]
    sources: frozenset[str] = frozenset()
    constant: bool = False

    @property
    def axes(self) -> tuple[Size | None, ...]:
        """What each axis stands for."""
        shapes = [sample.shape for sample in self.samples]
        return tuple(map(read_size, zip(*shapes, strict=True)))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return int(self.samples[0].ndim)

    def axis(self, size: Size) -> int | None:
        """Return the only axis of this size; None if there is none or several."""
        found = [axis for axis, other in enumerate(self.axes) if other == size]
        return found[0] if len(found) == 1 else None
