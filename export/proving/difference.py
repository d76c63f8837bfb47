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
    equal: int = 0


def _ratio(part: float, whole: float) -> float:
    """Return part / whole; a difference from an all-zero reference counts as it stands."""
    return float(part / whole) if whole > 0 else float(part)


@dataclass(slots=True)
class Difference:
    """Gathers answers and references; every figure is that of the worst output.

    Integers, such as tokens and labels, count as numbers in all figures but those of `floats`: for a proof that answers
    are the same that is right, for the size of an error it is not.
    """

    outputs: tuple[Tensor, ...]
    _sums: dict[str, _Sums] = field(init=False)

    def __post_init__(self) -> None:
        self._sums = {tensor.name: _Sums() for tensor in self.outputs}

    @property
    def floats(self) -> "Difference | None":
        """The same, of the float outputs alone; None if there are none."""
        outputs = tuple(tensor for tensor in self.outputs if tensor.datatype == "FP32")
        if not outputs:
            return None
        difference = Difference(outputs)
        difference._sums = {tensor.name: self._sums[tensor.name] for tensor in outputs}
        return difference

    def add(self, answer: Answer, reference: Answer) -> None:
        """Take in one row's answer and what it should be, of the same shapes."""
        for name, sums in self._sums.items():
            self._add(sums, answer[name].astype(np.float64), reference[name].astype(np.float64))

    def _add(self, sums: _Sums, got: Array, expected: Array) -> None:
        """Take in float64 arrays. The same infinity on both sides is no difference; NaN is an infinite one."""
        with np.errstate(invalid="ignore"):
            delta = np.nan_to_num(np.where(got == expected, 0.0, np.abs(got - expected)), nan=np.inf, posinf=np.inf)
        finite = expected[np.isfinite(expected)]
        both = np.isfinite(expected) & np.isfinite(got)
        sums.largest = max(sums.largest, float(delta.max()))
        sums.scale = max(sums.scale, float(np.abs(finite).max(initial=0.0)))
        sums.absolute += float(delta.sum())
        sums.squares += float((delta**2).sum())
        sums.reference_squares += float((finite**2).sum())
        sums.answer_squares += float((got[both] ** 2).sum())
        sums.products += float((got[both] * expected[both]).sum())
        sums.values += delta.size
        sums.equal += int((delta == 0).sum())
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
    def equal_share(self) -> float | None:
        """Share of values that are the same, of the integer outputs; None if there are none."""
        integers = [self._sums[tensor.name] for tensor in self.outputs if tensor.datatype != "FP32"]
        return min((sums.equal / sums.values for sums in integers), default=None)

    @property
    def argmax_agreement(self) -> float | None:
        """Share of last axes with the largest value at the same place; None if none has more than one value."""
        shares = [sums.agreed / sums.compared for sums in self._sums.values() if sums.compared]
        return min(shares, default=None)
