"""Timings that take turns, and the rows that are timed."""

import numpy as np

from export.data import noise
from export.runtime import Runtime
from loadtests.benchmarks.int8_models import Size, random_pair
from training.datasets import Part
from training.exported import median_row, rows_of
from training.turns import LEAST_ROUNDS, spread_of, take_turns


def test_models_take_turns_for_as_many_rounds_as_asked_or_as_there_is_time_for() -> None:
    pair = random_pair(Size(hidden=8, bidirectional=True))
    runtimes = {"fp32": Runtime(pair.fp32), "int8": Runtime(pair.int8)}
    row = noise(pair.fp32).rows[0]

    asked = take_turns(runtimes, row, batch_rows=2, rounds=5, budget_seconds=60)
    hurried = take_turns(runtimes, row, batch_rows=2, rounds=1000, budget_seconds=0)

    assert {name: len(times) for name, times in asked.items()} == {"fp32": 5, "int8": 5}
    assert {name: len(times) for name, times in hurried.items()} == {"fp32": LEAST_ROUNDS, "int8": LEAST_ROUNDS}
    assert all((times > 0).all() for times in asked.values())


def test_a_spread_is_the_quartiles() -> None:
    spread = spread_of(np.array([5.0, 1.0, 2.0, 4.0, 3.0]))

    assert (spread.p25, spread.median, spread.p75) == (2, 3, 4)


def test_rows_have_no_padding_and_the_timed_one_is_of_median_length() -> None:
    part = Part(x=np.zeros((3, 9, 2), np.float32), lengths=np.array([9, 2, 4]), target=np.zeros(3, np.int64))

    assert [len(row.inputs["x"]) for row in rows_of(part)] == [row.steps for row in rows_of(part)] == [9, 2, 4]
    assert median_row(rows_of(part)).steps == 4
