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
        ({"extra": np.ones(4)}, r"holds \['extra', 'lengths', 'words', 'x'\].*labels, are for --metric"),
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


def given() -> dict[str, Any]:
    return GOOD


def given_ragged() -> dict[str, Any]:
    return GOOD | {"x": [[1.0], [1.0, 2.0]]}


def given_objects() -> dict[str, Any]:
    return GOOD | {"x": np.array([None])}


def given_list() -> list[int]:
    return [1]


def given_failing() -> dict[str, Any]:
    raise RuntimeError("no such table")


def test_a_function_gives_the_same_rows_as_the_file(tmp_path: Path) -> None:
    from_file = read_data(_saved(tmp_path, GOOD), (X, WORDS))
    from_function = read_data("tests.export.test_data:given", (X, WORDS))

    assert from_function.input_range == from_file.input_range
    for one, other in zip(from_function.rows, from_file.rows, strict=True):
        assert one.steps == other.steps
        assert all((one.inputs[name] == other.inputs[name]).all() for name in one.inputs)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("given_ragged", "an array is ragged.*pad it"),
        ("given_objects", r"\['x'\] hold objects"),
        ("given_list", "returned a list; expected a dict of arrays"),
        ("given_failing", "failed: RuntimeError: no such table.*without arguments"),
        ("absent", "cannot be imported.*absent"),
        ("GOOD", "is a dict, not something that can be called"),
    ],
)
def test_a_function_that_gives_no_data_is_named(function: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_data(f"tests.export.test_data:{function}", (X, WORDS))


def test_labels_are_kept_beside_the_rows_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = _saved(tmp_path, GOOD | {"labels": np.arange(4)})

    data = read_data(path, (X, WORDS), extras=True)

    assert [row.steps for row in data.everything] == [6, 1, 3, 2]
    assert data.extras["labels"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("labels", [np.arange(3), np.array(7)])
def test_labels_of_another_number_than_the_rows_are_refused(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(ExportError, match=r"'labels' has shape .*one entry for each of 4 rows"):
        read_data(_saved(tmp_path, GOOD | {"labels": labels}), (X, WORDS), extras=True)


def test_many_rows_are_all_kept_and_a_seeded_sample_is_looked_at(tmp_path: Path) -> None:
    path = _saved(tmp_path, {"x": np.arange(900.0).reshape(300, 1, 3)})

    data = read_data(path, (X,))

    assert len(data.everything) == 300
    assert len(data.rows) == 256
    firsts = [[row.inputs["x"][0, 0] for row in read.rows] for read in (data, read_data(path, (X,)))]
    assert firsts[0] == firsts[1] != sorted(firsts[0])
