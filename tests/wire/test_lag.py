"""Which calls are refused unread, because the thread that takes them is behind."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from serving.wire.lag import LEAST_NS, RECENT, SHARE, Lag

MS = 1_000_000
waits = st.integers(0, 10_000 * MS)


def lag_after(seen: Sequence[int]) -> Lag:
    lag = Lag()
    for wait_ns in seen:
        lag.saw(wait_ns)
    return lag


def test_a_queue_shows_when_all_wait() -> None:
    lag = lag_after([40 * MS, 41 * MS, 42 * MS, 43 * MS])

    assert lag.ns == 40 * MS
    assert lag.refuses(159 * MS)
    assert not lag.refuses(160 * MS)


@given(st.lists(waits, max_size=RECENT - 1))
def test_a_few_slow_senders_look_like_no_queue(slow: list[int]) -> None:
    assert not lag_after(slow).refuses(0)
    assert not lag_after([*[waits_of_all := 20 * MS] * RECENT, 0, *slow]).refuses(waits_of_all)


@given(st.lists(waits, max_size=3 * RECENT), waits)
def test_whoever_has_caught_up_refuses_nobody(seen: list[int], left_ns: int) -> None:
    lag = lag_after(seen)
    lag.caught_up()
    lag.saw(10_000 * MS)

    assert not lag.matters
    assert not lag.refuses(left_ns)


@given(st.lists(waits, min_size=1, max_size=3 * RECENT), waits)
def test_only_who_has_waited_for_a_good_part_of_its_time_is_refused(seen: list[int], left_ns: int) -> None:
    lag = lag_after(seen)

    assert lag.ns <= min(seen[-RECENT:])
    if lag.refuses(left_ns):
        assert lag.ns > LEAST_NS
        assert lag.ns / (lag.ns + left_ns) > 1 / SHARE
    elif lag.ns > LEAST_NS:
        assert lag.ns / (lag.ns + left_ns) <= 1 / SHARE


@given(st.integers(0, LEAST_NS))
def test_a_burst_is_no_queue(wait_ns: int) -> None:
    assert not lag_after([wait_ns] * RECENT).refuses(0)
