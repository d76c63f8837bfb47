"""How far a smaller version's answers are from FP32's, each row run alone so that only rounding counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.proving.difference import Difference
from export.runtime import Answer, Array, Row, Runtime
from serving.manifest import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """Root mean square of one row's differences over that of all rows' answers; the worst output."""

    steps: int
    rms_relative: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models' answers to the same rows.

    Attributes:
        floats: of the float outputs; None if there are none.
        count: rows.
        equal_share: share of integer output values that are the same; None if there are none.
        rows: error of each row, of the float outputs.
        values: FP32's and the smaller version's values of the first float output, float32[values].
        output: name of that output.
    """

    floats: Difference | None
    count: int
    equal_share: float | None
    rows: tuple[RowError, ...]
    values: tuple[Array, Array]
    output: str

    @property
    def figures(self) -> dict[str, float | int | str]:
        """The figures for a proof; without those that this model's outputs do not have."""
        figures: dict[str, float | int | str] = {}
        if self.floats is not None:
            figures = {
                "rms_relative": self.floats.rms_relative,
                "relative": self.floats.relative,
                "max_abs": self.floats.max_abs,
                "cosine": self.floats.cosine,
            }
            if self.floats.argmax_agreement is not None:
                figures["argmax_agreement"] = self.floats.argmax_agreement
        if self.equal_share is not None:
            figures["equal_share"] = self.equal_share
        return figures


def compare(fp32: Runtime, smaller: Runtime, rows: Sequence[Row]) -> Comparison:
    """Run every row alone in both models and compare."""
    expected = [fp32.answer([row])[0] for row in rows]
    got = [smaller.answer([row])[0] for row in rows]
    return compare_answers(fp32.model.outputs, expected, got, rows)


def compare_answers(
    outputs: Sequence[Tensor], expected: Sequence[Answer], got: Sequence[Answer], rows: Sequence[Row]
) -> Comparison:
    """Compare answers that are at hand, in the order of the rows."""
    difference = Difference(tuple(outputs))
    for answer, reference in zip(got, expected, strict=True):
        difference.add(answer, reference)
    names = [tensor.name for tensor in outputs if tensor.datatype == "FP32"]
    first = names[0] if names else ""
    return Comparison(
        floats=difference.floats,
        count=len(rows),
        equal_share=difference.equal_share,
        rows=tuple(_row_errors(names, expected, got, rows)) if names else (),
        values=(_joined(expected, first), _joined(got, first)),
        output=first,
    )


def _row_errors(
    names: Sequence[str], expected: Sequence[Answer], got: Sequence[Answer], rows: Sequence[Row]
) -> list[RowError]:
    scales = {name: _rms(_joined(expected, name)) for name in names}
    errors = []
    for answer, reference, row in zip(got, expected, rows, strict=True):
        parts = [_rms(_delta(answer[name], reference[name])) / (scales[name] or 1.0) for name in names]
        errors.append(RowError(steps=row.steps, rms_relative=max(parts)))
    return errors


def _delta(got: Array, expected: Array) -> Array:
    """Return the differences where both are finite, float64[values]; a plot has no place for the others."""
    both = np.isfinite(got) & np.isfinite(expected)
    return got[both].astype(np.float64) - expected[both]


def _rms(values: Array) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _joined(answers: Sequence[Answer], name: str) -> Array:
    return np.concatenate([np.ravel(answer[name]) for answer in answers]) if name else np.empty(0, np.float32)
