"""Distributions of sequence lengths."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.lengths import MOST_STEPS, read_distribution, spread_evenly

unhurried = settings(deadline=None)  # the machine may be busy


def test_a_lognormal_has_its_median_and_spread() -> None:
    drawn = np.array(spread_evenly(read_distribution("lognormal:300,0.7"), 4000))

    assert np.median(drawn) == pytest.approx(300, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.7, rel=0.01)


@unhurried
@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 100), st.integers(0, 100))
def test_lengths_stay_within_their_bounds(quantile: float, shortest: int, more: int) -> None:
    for text in (f"uniform:{shortest},{shortest + more}", f"lognormal:{shortest},2,{shortest},{shortest + more}"):
        (steps,) = read_distribution(text)(np.array([quantile]))
        assert shortest <= steps <= shortest + more


@unhurried
@given(st.integers(1, 30), st.integers(0, 30))
def test_a_uniform_length_is_each_of_them_equally_often(shortest: int, more: int) -> None:
    drawn = spread_evenly(read_distribution(f"uniform:{shortest},{shortest + more}"), 20 * (more + 1))

    assert np.unique(drawn, return_counts=True)[1].tolist() == [20] * (more + 1)


@unhurried
@given(st.dictionaries(st.integers(1, 500), st.integers(0, 50), min_size=1, max_size=10))
def test_a_histogram_is_drawn_as_it_was_counted(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[int, int]
) -> None:
    path = tmp_path_factory.mktemp("histogram") / "steps.csv"
    path.write_text("steps,count\n" + "".join(f"{steps},{count}\n" for steps, count in counts.items()))
    total = sum(counts.values())
    if total == 0:
        with pytest.raises(TrafficError, match="no count is above 0"):
            read_distribution(f"histogram:{path}")
        return

    drawn = spread_evenly(read_distribution(f"histogram:{path}"), total)

    assert dict(zip(*np.unique(drawn, return_counts=True), strict=True)) == {
        steps: count for steps, count in counts.items() if count
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("30", "unknown"),
        ("normal:30,2", "unknown"),
        ("fixed:", "expected fixed"),
        ("fixed:1.5", "1.5 is no number of steps"),
        ("fixed:0", "0 is no number of steps"),
        ("fixed:inf", "inf is no number of steps"),
        ("fixed:nan", "nan is no number of steps"),
        (f"fixed:{MOST_STEPS + 1}", "is no number of steps"),
        ("fixed:1,2", "expected fixed"),
        ("uniform:5,4", "4 is no number of steps"),
        ("lognormal:30", "expected fixed"),
        ("lognormal:30,0", "a spread of 0"),
        ("lognormal:30,nan", "a spread of nan"),
        ("lognormal:3,1,5,10", "3 is no number of steps"),
    ],
)
def test_a_distribution_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(TrafficError, match=why):
        read_distribution(text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "line 1 is not there"),
        ("length,count\n1,2\n", "line 1 is length,count"),
        ("steps,count\n5,1\n6\n", "line 3 is '6': expected two numbers"),
        ("steps,count\n5,many\n", "line 2 is '5,many': expected two numbers"),
        ("steps,count\n0.5,1\n", "line 2 is '0.5,1': 0.5 is no number of steps"),
        ("steps,count\n5,-1\n", "line 2 has the count -1"),
        ("steps,count\n5,nan\n", "line 2 has the count nan"),
        ("steps,count\n", "no count is above 0"),
    ],
)
def test_a_line_of_a_histogram_that_is_wrong_is_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(content)

    with pytest.raises(TrafficError, match=why):
        read_distribution(f"histogram:{path}")


def test_a_histogram_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="cannot be read as CSV"):
        read_distribution(f"histogram:{tmp_path / 'none.csv'}")
