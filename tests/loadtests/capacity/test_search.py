"""The search for the highest rate, on servers that exist in arithmetic only."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.capacity.search import HIGHEST, LOWEST, PATIENCE, Found, Point, search


def server(capacity: float, generator: float = float("inf")) -> Callable[[float], Point]:
    """Answer as a server would that keeps its objectives up to a rate, called by a generator that can send another."""

    def measure(rate: float) -> Point:
        kept, limited = rate <= capacity, rate > generator
        missed = "" if kept else "p99, seconds 1.5"
        lag = 0.05 if limited else 0.0001
        return Point(rate=rate, kept=kept, limited=limited, p50=0.01, p99=0.02, lag_p99=lag, missed=missed)

    return measure


unhurried = settings(deadline=None)  # the machine may be busy
rates = st.floats(2 * LOWEST, HIGHEST / 4)


@unhurried
@given(rates, rates, st.floats(0.01, 0.5))
def test_the_capacity_is_found_to_the_precision_wherever_the_search_begins(
    capacity: float, first: float, precision: float
) -> None:
    found = search(server(capacity), first=first, precision=precision)

    assert found.capacity is not None
    assert not found.refusal
    assert found.capacity <= capacity <= found.capacity * (1 + precision)
    assert len(found.points) <= 50
    assert len({point.rate for point in found.points}) == len(found.points), "no rate is tried twice"


@unhurried
@given(rates, st.floats(0.1, 7))
def test_no_number_is_told_where_the_generator_was_the_limit(generator: float, times: float) -> None:
    found = search(server(4 * generator, generator), first=times * generator, precision=0.05)

    assert found.capacity is None
    assert "the load generator could not keep its times" in found.refusal
    assert found.low is not None
    assert found.low.rate <= generator


@unhurried
@given(rates)
def test_a_generator_that_is_slower_than_the_bracket_but_not_than_the_server_does_no_harm(capacity: float) -> None:
    found = search(server(capacity, 1.5 * capacity), first=capacity * 0.9, precision=0.05)

    assert found.capacity is not None
    assert found.capacity <= capacity <= found.capacity * 1.05


def test_what_never_keeps_the_objectives_or_always_does_has_no_capacity() -> None:
    never, always = (search(server(capacity), first=100, precision=0.05) for capacity in (0, 1e9))

    assert never.capacity is None
    assert "missed even at" in never.refusal
    assert "p99, seconds 1.5" in never.refusal
    assert always.capacity is None
    assert f"kept up to {HIGHEST:g} requests/s" in always.refusal


def test_a_generator_that_never_keeps_up_says_nothing_of_the_server() -> None:
    found = search(server(1000, 0), first=100, precision=0.05)

    assert found.capacity is None
    assert "nothing is known" in found.refusal
    assert len(found.points) == PATIENCE, "a machine that is too busy is not measured on and on"


@pytest.mark.parametrize("first", [0.0, 1e12])
def test_a_first_rate_out_of_bounds_is_brought_within_them(first: float) -> None:
    assert isinstance(found := search(server(10), first=first, precision=0.05), Found)
    assert all(LOWEST <= point.rate <= HIGHEST for point in found.points)
