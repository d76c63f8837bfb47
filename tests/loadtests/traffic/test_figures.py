"""What a run comes to: nothing is left out, and a wait before a request is sent counts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.figures import buckets_of, figures_of, outcomes_of, percentile, windows_of
from loadtests.traffic.records import (
    DEADLINE_EXCEEDED,
    NOT_SENT,
    OK,
    RESOURCE_EXHAUSTED,
    RIGHT,
    UNCHECKED,
    WRONG,
    join,
    latencies,
)
from tests.loadtests.traffic.made import records_of

unhurried = settings(deadline=None)  # the machine may be busy

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
records = st.lists(
    st.fixed_dictionaries(
        {
            "due": st.floats(0, 9.99),
            "ended": st.floats(10, 20),
            "status": st.sampled_from([OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, NOT_SENT]),
            "verdict": st.sampled_from([UNCHECKED, RIGHT, WRONG]),
        }
    )
).map(records_of)


@unhurried
@given(values, st.floats(0.001, 1))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(drawn: list[float], share: float) -> None:
    found = percentile(np.array(drawn), share)

    assert found in drawn
    assert np.mean(np.array(drawn) <= found) >= share - 1e-9
    below = [value for value in drawn if value < found]
    assert len(below) / len(drawn) < share


def test_a_percentile_of_nothing_is_not_a_number_and_of_few_the_largest() -> None:
    assert math.isnan(percentile(np.zeros(0), 0.99))
    assert percentile(np.array([1.0, 2.0, 3.0]), 0.99) == 3.0
    assert percentile(np.arange(1.0, 101.0), 0.99) == 99.0
    assert percentile(np.arange(1.0, 1001.0), 0.999) == 999.0


def test_a_request_that_waited_to_be_sent_has_waited() -> None:
    """A client that stands still for a second with the server: ten requests were due in it, and none may look quick."""
    stalled = records_of([{"due": 0.1 * n, "sent": 1.0, "ended": 1.01} for n in range(10)])
    found = figures_of(stalled, due=10, seconds=1.0, deadline=0.5)

    assert latencies(stalled) == pytest.approx([1.01 - 0.1 * n for n in range(10)])
    assert (stalled["ended"] - stalled["sent"] < 0.02).all(), "as a closed loop would have measured"
    assert found.p99 == pytest.approx(1.01)
    assert found.lag_p99 == pytest.approx(1.0)
    assert found.in_time == 4, "those due at 0.6 and later"


@unhurried
@given(records, st.integers(0, 5))
def test_each_request_is_counted_once(drawn: np.ndarray, lost: int) -> None:
    found = figures_of(drawn, due=len(drawn) + lost, seconds=10.0, deadline=5.0)

    assert found.answered + found.shed + found.errors == found.due
    assert found.right + found.wrong + found.unchecked == found.answered
    assert found.lost == lost
    assert found.in_time <= found.answered - found.wrong
    assert found.error_share + found.shed_share == pytest.approx(
        1 - found.answered / max(1, found.due) if found.due else 0
    )
    assert sum(outcomes_of(drawn).values()) == len(drawn)


@unhurried
@given(records, st.floats(0.5, 20))
def test_stretches_add_up_to_the_whole(drawn: np.ndarray, width: float) -> None:
    whole = figures_of(drawn, due=len(drawn), seconds=10.0, deadline=5.0)
    windows = windows_of(drawn, drawn["due"], width=width, seconds=10.0, deadline=5.0)

    for name in ("due", "ended", "answered", "in_time", "wrong", "shed", "errors"):
        assert sum(getattr(window, name) for window in windows) == getattr(whole, name)
    assert sum(window.seconds for window in windows) == pytest.approx(10.0)


def test_requests_that_are_lost_are_errors_of_the_stretch_that_they_were_due_in() -> None:
    windows = windows_of(records_of([{"due": 0.5}]), np.array([0.5, 1.5, 1.6]), width=1.0, seconds=2.0, deadline=5.0)

    assert [(window.due, window.errors) for window in windows] == [(1, 0), (2, 2)]


def test_latencies_are_told_by_length_in_buckets_that_double() -> None:
    steps = [1, 2, 3, 4, 7, 64]
    drawn = records_of(
        [{"sample": number, "ended": number + 1.0} for number in range(6)] + [{"sample": 0, "status": 4}]
    )

    buckets = buckets_of(drawn, steps)

    assert [(each.shortest, each.longest, each.answered) for each in buckets] == [
        (1, 1, 1),
        (2, 3, 2),
        (4, 7, 2),
        (64, 127, 1),
    ]
    assert [each.mean for each in buckets] == [1.0, 2.5, 5.5, 64.0]
    assert [each.p50 for each in buckets] == [1.0, 2.0, 4.0, 6.0]
    assert [each.p99 for each in buckets] == [1.0, 3.0, 5.0, 6.0]


@unhurried
@given(st.lists(records))
def test_what_workers_send_home_is_put_together_by_when_it_was_due(parts: list[np.ndarray]) -> None:
    together = join([part.tobytes() for part in parts])

    assert sorted(together.tolist()) == sorted(row for part in parts for row in part.tolist())
    assert (np.diff(together["due"]) >= 0).all()
