"""The rows that wait, against a plain sorted list; and that what a change costs does not grow with the queue."""

from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.batching import waiting
from serving.batching.tickets import Row
from serving.batching.waiting import MOST_BLOCK_ROWS, Waiting
from tests.batching.house import seeded, ticket

SMALL_BLOCK_ROWS = 6


def row_of(number: int, *, urgency: int, steps: int = 5) -> Row:
    return Row(ticket(number, steps), 0, urgency)


class LikeASortedList(RuleBasedStateMachine):
    """Rows come and go in any number, from anywhere, in blocks small enough to be cut and to run empty."""

    def __init__(self) -> None:
        super().__init__()
        self.small = patch.object(waiting, "MOST_BLOCK_ROWS", SMALL_BLOCK_ROWS)
        self.small.start()
        self.waiting = Waiting()
        self.truth: list[Row] = []
        self.made = 0

    def teardown(self) -> None:
        self.small.stop()

    @rule(urgencies=st.lists(st.integers(0, 30), min_size=1, max_size=20), steps=st.integers(1, 4))
    def add(self, *, urgencies: list[int], steps: int) -> None:
        rows = [row_of(self.made + number, urgency=key, steps=steps) for number, key in enumerate(urgencies)]
        self.made += len(rows)
        self.waiting.add(rows)
        self.truth = sorted([*self.truth, *rows], key=lambda row: row.order)

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def remove(self, *, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.truth), min_size=1, max_size=12, unique_by=id))
        self.waiting.remove(rows)
        self.truth = [row for row in self.truth if row not in rows]

    @precondition(lambda self: self.truth)
    @rule(count=st.integers(1, 20))
    def remove_the_first(self, *, count: int) -> None:
        self.waiting.remove(self.waiting.first(count))
        del self.truth[:count]

    @rule(steps=st.integers(1, 4), count=st.integers(1, 20))
    def look_for_a_length(self, *, steps: int, count: int) -> None:
        same = [row for row in self.truth if row.length == steps]
        assert self.waiting.first_of_length(steps, count) == same[:count]

    @rule(count=st.integers(1, 30))
    def look_at_the_first(self, *, count: int) -> None:
        assert self.waiting.first(count) == self.truth[:count]

    @invariant()
    def it_is_the_sorted_list(self) -> None:
        assert list(self.waiting) == self.truth
        assert len(self.waiting) == len(self.truth)
        assert all(0 < len(block) <= SMALL_BLOCK_ROWS for block in self.waiting._blocks)


LikeASortedList.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLikeASortedList = LikeASortedList.TestCase


class Counted(tuple[int, int, int]):
    """An order that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __lt__(self, other: tuple[int, ...]) -> bool:
        Counted.comparisons += 1
        return tuple.__lt__(self, other)

    def __gt__(self, other: tuple[int, ...]) -> bool:
        Counted.comparisons += 1
        return tuple.__gt__(self, other)


def counted(number: int, urgency: int) -> Row:
    row = row_of(number, urgency=urgency)
    row.order = Counted(row.order)
    return row


def comparisons_of_a_turn(waits: int) -> int:
    """Count what it takes to add a row to so many, let it go again, and have 64 of them out and back."""
    seed, rows = seeded(2), Waiting()
    rows.add([counted(number, seed.randrange(waits)) for number in range(waits)])
    new = counted(waits, waits // 2)
    Counted.comparisons = 0
    rows.add([new])
    rows.remove([new])
    batch = rows.first(64)
    rows.remove(batch)
    rows.add(batch)
    return Counted.comparisons


def test_a_change_compares_no_more_rows_than_it_has_but_for_a_search() -> None:
    few, many = comparisons_of_a_turn(100), comparisons_of_a_turn(100_000)

    assert many <= few + 100


@pytest.mark.parametrize("at_once", [1, 100, 5000])
def test_no_block_grows_beyond_what_moves_in_a_moment(at_once: int) -> None:
    seed, rows = seeded(3), Waiting()
    them = [row_of(number, urgency=seed.randrange(1000)) for number in range(5000)]
    for start in range(0, len(them), at_once):
        rows.add(them[start : start + at_once])

    sizes = [len(block) for block in rows._blocks]
    assert max(sizes) <= MOST_BLOCK_ROWS
    assert min(sizes) >= MOST_BLOCK_ROWS // 4
