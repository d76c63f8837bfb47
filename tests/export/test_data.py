"""Data files: what fits, and what each mistake is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.data import pool, read_data
from export.errors import ExportError
from serving.manifest import Tensor

X = Tensor(name="x", datatype="FP32", shape=("batch", "time", 3))
WORDS = Tensor(name="words", datatype="INT64", shape=("batch", "time"))
GOOD: dict[str, Any] = {
    "x": np.ones((4, 6, 3)),
    "words": np.zeros((4, 6), np.int32),
    "lengths": np.array([6, 1, 3, 2]),
}


def _saved(directory: Path, arrays: dict[str, Any]) -> Path:
    path = directory / "data.npz"
    np.savez(path, **arrays)
    return path


def test_rows_are_cut_to_their_lengths_and_the_range_is_that_of_real_steps(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 3))
    x[0, 2], x[1, 0], x[1, 1:] = -2.0, 4.0, 99.0
    arrays = {"x": x, "words": np.zeros((2, 3), int), "lengths": np.array([3, 1])}

    data = read_data(_saved(tmp_path, arrays), (X, WORDS))

    assert data.input_range == {"x": (-2.0, 4.0)}
    assert sorted(row.steps for row in data.rows) == [1, 3]
    assert {row.inputs["x"].dtype for row in data.rows} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((4, 6, 2))}, r"'x' has shape \[4, 6, 2\]; expected \[batch, time, 3\]"),
        ({"words": np.zeros((4, 5), int)}, r"'words' has shape \[4, 5\]"),
        ({"x": np.ones((0, 6, 3))}, "no axis empty"),
        ({"words": np.zeros((4, 6))}, "'words' is float64; expected int64"),
        ({"x": np.full((4, 6, 3), np.nan)}, "NaN"),
        ({"lengths": np.array([6, 0, 3, 2])}, "integers from 1 to 6"),
        ({"lengths": np.array([6, 7, 3, 2])}, "integers from 1 to 6"),
        ({"extra": np.ones(3)}, r"holds \['extra', 'lengths', 'words', 'x'\]"),
        ({"x": np.array([[[object()] * 3]])}, "plain arrays"),
    ],
)
def test_what_does_not_fit_the_model_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_data(_saved(tmp_path, GOOD | change), (X, WORDS))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"not a zip", "plain arrays"), (b"", "plain arrays")],
)
def test_a_file_that_is_no_npz_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ExportError, match=message):
        read_data(path, (X,))


def test_a_pool_has_length_one_and_the_longest_and_groups_of_equal_lengths(tmp_path: Path) -> None:
    arrays = {"x": np.ones((3, 40, 3)), "lengths": np.array([40, 2, 9])}
    data = read_data(_saved(tmp_path, arrays), (X,))

    lengths = [row.steps for row in pool(data, (X,))]

    assert lengths[0] == 1
    assert lengths[-1] == 40
    assert all(lengths.count(steps) >= 2 for steps in lengths)
