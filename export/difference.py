"""How far answers are from their reference, gathered over many rows."""

from dataclasses import dataclass, field

import numpy as np

from export.runtime import Answer, Array
from serving.manifest import Tensor


@dataclass(slots=True)
class _Sums:
    largest: float = 0.0
    scale: float = 0.0
    absolute: float = 0.0
    squares: float = 0.0
    reference_squares: float = 0.0
    answer_squares: float = 0.0
    products: float = 0.0
    values: int = 0
    agreed: int = 0
    compared: int = 0


def _ratio(part: float, whole: float) -> float:
    """Return part / whole; a difference from an all-zero reference counts as it stands."""
    return float(part / whole) if whole > 0 else float(part)


@dataclass(slots=True)
class Difference:
    """Gathers answers and references; every figure is that of the worst output."""

    outputs: tuple[Tensor, ...]
    _sums: dict[str, _Sums] = field(init=False)

    def __post_init__(self) -> None:
        self._sums = {tensor.name: _Sums() for tensor in self.outputs}

    def add(self, answer: Answer, reference: Answer) -> None:
        """Take in one row's answer and what it should be, of the same shapes."""
        for name, sums in self._sums.items():
            self._add(sums, answer[name].astype(np.float64), reference[name].astype(np.float64))

    def _add(self, sums: _Sums, got: Array, expected: Array) -> None:
        delta = np.abs(got - expected)
        sums.largest = max(sums.largest, float(np.nan_to_num(delta, nan=np.inf).max()))
        sums.scale = max(sums.scale, float(np.abs(expected).max()))
        sums.absolute += float(delta.sum())
        sums.squares += float((delta**2).sum())
        sums.reference_squares += float((expected**2).sum())
        sums.answer_squares += float((got**2).sum())
        sums.products += float((got * expected).sum())
        sums.values += delta.size
        if got.ndim and got.shape[-1] > 1:
            same = got.argmax(-1) == expected.argmax(-1)
            sums.agreed += int(same.sum())
            sums.compared += same.size

    @property
    def max_abs(self) -> float:
        """Largest absolute difference."""
        return max(sums.largest for sums in self._sums.values())

    @property
    def relative(self) -> float:
        """Largest absolute difference over the reference's largest absolute value."""
        return max(_ratio(sums.largest, sums.scale) for sums in self._sums.values())

    @property
    def mean_relative(self) -> float:
        """Mean absolute difference over the reference's largest absolute value."""
        return max(_ratio(sums.absolute / sums.values, sums.scale) for sums in self._sums.values())

    @property
    def rms(self) -> float:
        """Root mean square of the difference."""
        return max(float(np.sqrt(sums.squares / sums.values)) for sums in self._sums.values())

    @property
    def rms_relative(self) -> float:
        """Root mean square of the difference over that of the reference."""
        return max(
            _ratio(float(np.sqrt(sums.squares)), float(np.sqrt(sums.reference_squares))) for sums in self._sums.values()
        )

    @property
    def cosine(self) -> float:
        """Cosine between all answers and all references."""
        return min(
            _ratio(sums.products, float(np.sqrt(sums.answer_squares * sums.reference_squares)))
            for sums in self._sums.values()
        )

    @property
    def argmax_agreement(self) -> float | None:
        """Share of last axes with the largest value at the same place; None if none has more than one value."""
        shares = [sums.agreed / sums.compared for sums in self._sums.values() if sums.compared]
        return min(shares, default=None)
