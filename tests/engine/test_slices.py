"""Batches in slices: the same answers, and only where they cost next to nothing on an idle machine."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.clock import NANOSECONDS_PER_SECOND, SystemClock
from serving.engine.onnx import OnnxEngine
from serving.engine.slices import SLICE_ROWS, run_in_slices, slices_of
from serving.errors import ArtifactError
from serving.manifest import read_manifest
from serving.tensors import Array, Arrays, Layout, Rows, whole_parts
from tests.support.artefacts import FEATURES, write_lstm

IN_NO_TIME = [(SLICE_ROWS, 1, 0.0), (SLICE_ROWS, 8, 0.0)]
"""What a warm-up may have measured."""


def engine_of(directory: Path) -> OnnxEngine:
    return OnnxEngine(read_manifest(directory), directory / "model.onnx", device="cpu", threads=1)


class Trial:
    """A clock for a trial, of which each call takes the next of some times in turn (seconds)."""

    def __init__(self, *seconds: float) -> None:
        self._readings = self._count(itertools.cycle(seconds))
        self.asked = 0

    def now_ns(self) -> int:
        self.asked += 1
        return round(next(self._readings) * NANOSECONDS_PER_SECOND)

    @staticmethod
    def _count(seconds: Iterator[float]) -> Iterator[float]:
        now = 0.0
        for each in seconds:
            yield now
            now += each
            yield now


class Doubling:
    """A session that doubles, and remembers of how many rows its calls were."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, names: Sequence[str], feed: Arrays) -> list[Array]:
        self.rows.append(len(feed["x"]))
        return [2 * feed[name] for name in names]


@given(rows=st.integers(1, 300))
def test_slices_are_of_nearly_equal_rows_and_put_together_in_order(rows: int) -> None:
    session = Doubling()
    feed = {"x": np.arange(3 * rows).reshape(rows, 3), "lengths": np.arange(rows)}

    lengths, x = run_in_slices(session, ["lengths", "x"], feed, rows=rows)

    np.testing.assert_array_equal(x, 2 * feed["x"])
    np.testing.assert_array_equal(lengths, 2 * feed["lengths"])
    assert sum(session.rows) == rows
    assert len(session.rows) == slices_of(rows)
    assert max(session.rows) - min(session.rows) <= 1
    assert max(session.rows) <= 1.5 * SLICE_ROWS
    assert len(session.rows) == 1 or min(session.rows) >= 0.75 * SLICE_ROWS


@pytest.mark.parametrize("stepwise", [False, True])
def test_answers_are_those_of_the_whole_batch(tmp_path: Path, *, stepwise: bool) -> None:
    directory = write_lstm(tmp_path, bidirectional=not stepwise, stepwise=stepwise)
    engine, layout = engine_of(directory), Layout(read_manifest(directory))
    rng = np.random.default_rng(7)
    lengths = rng.integers(1, 30, 61)
    x = rng.normal(size=(61, 30, FEATURES)).astype(np.float32)
    feed = layout.pack(whole_parts(layout.answer(Rows(inputs={"x": x}, lengths=lengths, time=30))))

    whole = engine.run(feed)
    engine.in_slices = True
    in_slices = engine.run(feed)

    assert in_slices.keys() == whole.keys()
    for name, expected in whole.items():
        assert in_slices[name].shape == expected.shape
        np.testing.assert_allclose(in_slices[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("seconds_in_slices", "chosen"), [(0.5, True), (1.04, True), (1.06, False), (2.0, False)])
def test_slices_are_chosen_unless_they_take_longer(tmp_path: Path, *, seconds_in_slices: float, chosen: bool) -> None:
    engine = engine_of(write_lstm(tmp_path))

    engine.choose_slices(IN_NO_TIME, Trial(1.0, seconds_in_slices), most_rows=None)

    assert engine.in_slices is chosen


def test_one_slow_call_of_either_kind_decides_nothing(tmp_path: Path) -> None:
    engine = engine_of(write_lstm(tmp_path))

    engine.choose_slices(IN_NO_TIME, Trial(1.0, 9.0, 1.0, 1.0, 1.0, 1.0), most_rows=None)
    assert engine.in_slices
    engine.choose_slices(IN_NO_TIME, Trial(9.0, 2.0, 1.0, 2.0, 1.0, 2.0), most_rows=None)
    assert not engine.in_slices


def test_a_model_that_fails_only_on_large_batches_is_refused(tmp_path: Path) -> None:
    """Traffic would find out otherwise, row by row."""
    engine = engine_of(write_lstm(tmp_path))
    whole = engine._session

    class Narrow:
        def run(self, names: Sequence[str], feed: Arrays) -> Sequence[Array]:
            assert len(feed["x"]) <= SLICE_ROWS, "too many rows"
            return whole.run(names, feed)

    engine._session = Narrow()
    measured = engine.warm_up([(SLICE_ROWS, 1)], SystemClock())
    with pytest.raises(ArtifactError, match="warm-up with 64 rows of 1 steps failed: too many rows"):
        engine.choose_slices(measured, SystemClock(), most_rows=None)


@pytest.mark.parametrize(
    ("measured", "most_rows"),
    [
        ([(SLICE_ROWS, 1, 0.1), (SLICE_ROWS, 8, 0.8)], None),
        ([(1, 64, 0.001)], None),
        (IN_NO_TIME, SLICE_ROWS),
        (IN_NO_TIME, 1),
    ],
    ids=["too slow to try", "not warmed up with a slice", "no batch of two slices", "no batches"],
)
def test_nothing_is_tried_that_takes_long_or_cannot_come(
    tmp_path: Path, measured: list[tuple[int, int, float]], most_rows: int | None
) -> None:
    engine, clock = engine_of(write_lstm(tmp_path)), Trial(1.0)

    engine.choose_slices(measured, clock, most_rows=most_rows)

    assert not engine.in_slices
    assert not clock.asked
