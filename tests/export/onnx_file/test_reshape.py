"""The numbers in a Reshape's target are read as batch, time or themselves."""

from collections.abc import Sequence

import pytest

from export.onnx_file.probing import IS_BATCH, IS_TIME, Size
from export.onnx_file.reshape import Frozen, read_target

TIMES_TEN = Size(10, batch=False, time=True)
MERGED = Size(1, batch=True, time=True)


def number(value: int) -> Size:
    return Size(value, batch=False, time=False)


@pytest.mark.parametrize(
    ("data", "target", "frozen", "expected"),
    [
        ([IS_BATCH, IS_TIME, number(10)], [1, 7, 10], Frozen(1, 7), [IS_BATCH, IS_TIME, number(10)]),
        ([IS_BATCH, IS_TIME, number(10)], [1, 7, 2, 5], Frozen(1, 7), [IS_BATCH, IS_TIME, number(2), number(5)]),
        ([IS_TIME, number(2), IS_BATCH, number(5)], [0, 0, 0, -1], Frozen(1, 7), [IS_TIME, number(2), IS_BATCH, None]),
        ([IS_BATCH, IS_TIME, number(10)], [7, 10], Frozen(1, 7), [MERGED, number(10)]),
        ([IS_TIME, IS_BATCH, number(10)], [-1, 10], Frozen(1, 7), [None, number(10)]),
        ([IS_BATCH, IS_TIME, number(7)], [7, 7], Frozen(1, 7), [MERGED, number(7)]),
        ([IS_BATCH, IS_TIME, number(10)], [7, 1, 10], Frozen(1, 7), [MERGED, number(1), number(10)]),
        ([MERGED, number(4)], [1, 7, 4], Frozen(1, 7), [IS_BATCH, IS_TIME, number(4)]),
        ([IS_BATCH, IS_TIME, number(10)], [4, 70], Frozen(4, 7), [IS_BATCH, TIMES_TEN]),
        ([IS_BATCH, IS_TIME, number(10)], [3, -1, 10], Frozen(None, None), [IS_BATCH, None, number(10)]),
        ([IS_BATCH, IS_TIME, number(10)], [IS_BATCH, 7, 10], Frozen(None, 7), [IS_BATCH, IS_TIME, number(10)]),
    ],
    ids=str,
)
def test_a_target_is_read(
    data: Sequence[Size], target: Sequence[int | Size], frozen: Frozen, expected: Sequence[Size | None]
) -> None:
    assert read_target(data, target, frozen, allow_zero=False) == expected


@pytest.mark.parametrize(
    ("data", "target"),
    [
        ([IS_BATCH, IS_TIME, number(10)], [1, 7, 3]),
        ([IS_BATCH, None, number(10)], [1, 7, 10]),
    ],
    ids=["other numbers", "an axis that is neither"],
)
def test_a_target_without_a_meaning_is_not_read(data: Sequence[Size | None], target: Sequence[int]) -> None:
    assert read_target(data, target, Frozen(1, 7), allow_zero=False) is None
