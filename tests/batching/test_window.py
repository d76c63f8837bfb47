"""The cheapest cut of a window, against every cut that there is; without padding, the quickest group of it."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batching import Batcher, CostModel, Fifo, Policy, WholeSequence
from serving.batching.tickets import Row
from serving.batching.window import cheapest_group, quickest_group
from tests.batching.house import Engine, ticket, tickets


def engines(*, padding_free: bool) -> st.SearchStrategy[Engine]:
    return st.builds(
        Engine,
        call=st.sampled_from((1e-6, 1e-4, 1e-2)),
        step=st.sampled_from((1e-6, 5e-5, 1e-3)),
        row_step=st.sampled_from((1e-6, 5e-6, 1e-4)),
        padding_free=st.just(padding_free),
    )


ENGINES = engines(padding_free=False)
PADDING_FREE_ENGINES = engines(padding_free=True)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


def rows_of(lengths: Sequence[int]) -> list[Row]:
    return [Row(ticket(number, steps), 0, number) for number, steps in enumerate(lengths)]


def every_partition(rows: Sequence[Row], most_rows: int) -> Iterator[list[list[Row]]]:
    """Yield every way of putting rows into groups, neighbours in length or not."""
    if not rows:
        yield []
        return
    for others in every_partition(rows[1:], most_rows):
        yield [[rows[0]], *others]
        for position, group in enumerate(others):
            if len(group) < most_rows:
                yield [*others[:position], [rows[0], *group], *others[position + 1 :]]


def seconds_of(groups: Sequence[Sequence[Row]], cost: CostModel) -> float:
    return sum(cost.seconds(len(group), max(row.length for row in group)) for group in groups)


def cut(rows: Sequence[Row], cost: CostModel, most_rows: int) -> list[list[Row]]:
    """Take groups until nothing is left, as a server does to which nothing else comes."""
    left, groups = list(rows), []
    while left:
        group = cheapest_group(left, cost, most_rows)
        assert group[0] in left
        assert left[0] in group, "the most urgent row is always in the group"
        assert len(group) <= most_rows
        left = [row for row in left if row not in group]
        groups.append(group)
    return groups


@settings(deadline=None)
@given(lengths=LENGTHS, engine=ENGINES, most_rows=st.integers(1, 7))
def test_no_partition_of_the_window_costs_less(lengths: list[int], engine: Engine, most_rows: int) -> None:
    """Group after group, each cut anew, adds up to the optimum: the rest of a cheapest partition is a cheapest one."""
    cost = engine.warm_cost()
    rows = rows_of(lengths)

    best = min(seconds_of(groups, cost) for groups in every_partition(rows, most_rows))

    assert seconds_of(cut(rows, cost, most_rows), cost) == pytest.approx(best, rel=1e-9)


def run_to_the_end(policy: Policy, cost: CostModel, lengths: Sequence[int]) -> tuple[float, float]:
    """Return the engine's seconds for a queue to which nothing comes, and how much of what it computed was real."""
    batcher = Batcher(policy, cost, max_queue_rows=len(lengths))
    for each in tickets(lengths):
        assert batcher.admit(each, now_ns=0) is None
    seconds, computed = 0.0, 0
    while (batch := batcher.poll(0).batch) is not None:
        seconds += batch.predicted_seconds
        computed += batch.rows * batch.steps
        batcher.finished(batch)
    return seconds, sum(lengths) / computed


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=24), engine=ENGINES, most_rows=st.sampled_from((8, 24))
)
def test_a_window_never_takes_longer_than_in_order_of_arrival(
    lengths: list[int], engine: Engine, most_rows: int
) -> None:
    cost = engine.warm_cost()

    ours, _ = run_to_the_end(WholeSequence(cost, max_rows=most_rows), cost, lengths)
    fifo, _ = run_to_the_end(Fifo(cost, max_rows=most_rows), cost, lengths)

    assert ours <= fifo * (1 + 1e-9)


def test_padding_may_grow_where_a_step_costs_much_and_a_row_next_to_nothing() -> None:
    """Less time is what is promised, not less padding: here one long batch beside a padded one is quicker than two."""
    cost = Engine(call=1e-6, step=1e-3, row_step=1e-6).warm_cost()

    ours, ours_real = run_to_the_end(WholeSequence(cost, max_rows=2), cost, [1, 3, 6])
    fifo, fifo_real = run_to_the_end(Fifo(cost, max_rows=2), cost, [1, 3, 6])

    assert ours < fifo
    assert ours_real < fifo_real


@given(lengths=LENGTHS, engine=PADDING_FREE_ENGINES, most_rows=st.integers(1, 7))
def test_without_padding_no_other_full_group_around_the_most_urgent_row_is_quicker(
    lengths: list[int], engine: Engine, most_rows: int
) -> None:
    """In real steps per second, among all groups of neighbours in length."""
    window = rows_of(lengths)
    size = min(most_rows, len(window))
    ordered = sorted(window, key=lambda row: row.length)
    groups = [ordered[start : start + size] for start in range(len(ordered) - size + 1)]

    def rate(group: Sequence[Row]) -> float:
        steps = [row.length for row in group]
        return sum(steps) / engine.seconds(len(steps), max(steps), sum(steps))

    group = quickest_group(window, engine.warm_cost(), most_rows)

    assert window[0] in group
    assert len(group) == size
    assert rate(group) == pytest.approx(max(rate(each) for each in groups if window[0] in each), rel=1e-6)


def test_without_padding_rows_of_one_length_go_in_the_order_of_their_urgency() -> None:
    window = rows_of([30] * 5)

    assert quickest_group(window, Engine(padding_free=True).warm_cost(), 3) == window[:3]
