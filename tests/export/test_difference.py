"""Figures of difference stay honest where outputs hold infinities and NaN."""

import math

import numpy as np
import pytest

from export.proving.difference import Difference
from serving.manifest import Tensor

LABELS = Tensor(name="labels", datatype="INT64", shape=("batch", 4))
Y = Tensor(name="y", datatype="FP32", shape=("batch", 3))


def _difference(got: list[float], expected: list[float]) -> Difference:
    difference = Difference((Y,))
    difference.add({"y": np.array(got)}, {"y": np.array(expected)})
    return difference


def test_the_same_infinity_on_both_sides_neither_counts_nor_hides_the_rest() -> None:
    difference = _difference([-math.inf, 1.0, 2.5], [-math.inf, 1.0, 2.0])

    assert difference.relative == 0.25
    assert difference.rms_relative == pytest.approx(0.5 / math.sqrt(5))
    assert difference.cosine == pytest.approx(6 / math.sqrt(7.25 * 5))


@pytest.mark.parametrize("got", [math.nan, math.inf, 0.0])
def test_another_value_than_an_infinite_or_finite_one_is_an_infinite_difference(got: float) -> None:
    assert _difference([got, 1.0, 2.0], [-math.inf, 1.0, 2.0]).relative == math.inf
    if not math.isfinite(got):
        assert _difference([got, 1.0, 2.0], [3.0, 1.0, 2.0]).rms_relative == math.inf


def test_an_all_zero_reference_counts_the_difference_as_it_stands() -> None:
    assert _difference([0.0, 0.0, 0.25], [0.0, 0.0, 0.0]).relative == 0.25


def test_integers_are_told_from_floats_where_the_size_of_an_error_matters() -> None:
    """A label that changes from 1 to 900 is one wrong label, not an error of 899."""
    difference = Difference((Y, LABELS))
    difference.add(
        {"y": np.array([1.0, 2.0, 2.0]), "labels": np.array([1, 2, 3, 900])},
        {"y": np.array([1.0, 2.0, 1.0]), "labels": np.array([1, 2, 3, 1])},
    )

    assert difference.relative > 100
    assert difference.floats is not None
    assert difference.floats.relative == 0.5
    assert difference.floats.equal_share is None
    assert difference.equal_share == 0.75
    assert Difference((LABELS,)).floats is None
