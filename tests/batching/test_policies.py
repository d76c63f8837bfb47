"""What each policy picks, and in which order rows come to be picked."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batching import (
    NEVER_NS,
    Batcher,
    CostModel,
    EqualLengths,
    Fifo,
    Policy,
    Stepwise,
    Ticket,
    WholeSequence,
)
from serving.batching.policies import LARGEST_AUTO_ROWS, LEAST_AUTO_ROWS, latest_start_ns
from serving.batching.tickets import Row
from serving.batching.waiting import Waiting
from tests.batching.house import SECOND_NS, Engine, queue_of, seeded, ticket, tickets
from tests.batching.simulator import log_normal_steps
from tests.batching.test_window import ENGINES, PADDING_FREE_ENGINES, run_to_the_end

ENGINE = Engine()
POLICIES: dict[str, Callable[[CostModel], Policy]] = {
    "stepwise": lambda cost: Stepwise(cost, tick_seconds=2e-3, max_rows=4),
    "whole": lambda cost: WholeSequence(cost, max_rows=4),
    "equal": lambda cost: EqualLengths(cost, max_rows=4),
    "fifo": lambda cost: Fifo(cost, max_rows=4),
}


def waiting(policy: Policy, *these: Ticket) -> Waiting:
    return queue_of([Row(each, 0, policy.key_ns(each, each.lengths[0])) for each in these])


def picked(policy: Policy, *these: Ticket, most_rows: int = 4, now_ns: int = 0) -> list[int]:
    """Name the tickets that are picked."""
    return sorted(
        row.ticket.id for row in policy.pick(waiting(policy, *these), most_rows=most_rows, now_ns=now_ns).rows
    )


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=40),
    engine=st.one_of(ENGINES, PADDING_FREE_ENGINES),
    tick_seconds=st.sampled_from((1e-3, 1e-2, 1.0)),
)
def test_no_other_chunk_gets_more_real_steps_done_per_second(
    lengths: list[int], engine: Engine, tick_seconds: float
) -> None:
    cost = engine.warm_cost()
    policy = Stepwise(cost, tick_seconds=tick_seconds)
    pick = policy.pick(waiting(policy, *tickets(lengths)), most_rows=policy.most_rows(), now_ns=0)
    remaining = [row.remaining for row in pick.rows]

    def rate(steps: int) -> float:
        real_steps = sum(min(each, steps) for each in remaining)
        return real_steps / cost.seconds(len(remaining), steps, real_steps)

    limit = min(max(remaining), policy.chunk_steps(len(remaining)))
    assert 1 <= pick.steps <= limit
    assert rate(pick.steps) == pytest.approx(max(map(rate, range(1, limit + 1))), rel=1e-9)


@given(rows=st.integers(1, 300), engine=ENGINES, tick_seconds=st.sampled_from((1e-3, 1e-2, 0.1)))
def test_a_tick_takes_no_longer_than_it_should_unless_one_step_does(
    rows: int, engine: Engine, tick_seconds: float
) -> None:
    cost = engine.warm_cost()
    policy = Stepwise(cost, tick_seconds=tick_seconds)
    rows = min(rows, policy.most_rows())

    steps = policy.chunk_steps(rows)

    assert steps >= 1
    assert steps == 1 or cost.seconds(rows, steps) <= tick_seconds * (1 + 1e-9)
    assert cost.seconds(rows, steps + 1) > tick_seconds * (1 - 1e-9)


@given(engine=ENGINES, tick_seconds=st.sampled_from((1e-3, 1e-2, 0.1)))
def test_rows_are_chosen_within_bounds_and_so_that_one_more_would_not_pay(engine: Engine, tick_seconds: float) -> None:
    cost = engine.warm_cost()
    now = cost.coefficients()

    stepwise = Stepwise(cost, tick_seconds=tick_seconds).most_rows()
    whole = WholeSequence(cost).most_rows()

    assert 1 <= stepwise <= LARGEST_AUTO_ROWS
    assert LEAST_AUTO_ROWS <= whole <= LARGEST_AUTO_ROWS
    for rows in (stepwise, whole):
        if rows < LARGEST_AUTO_ROWS:
            assert now.row_step / (now.step / (rows + 1) + now.row_step) >= 0.8


def test_fixed_chunks_and_rows_are_kept() -> None:
    policy = Stepwise(ENGINE.warm_cost(), tick_seconds=1e-9, max_rows=3, steps=16)

    assert policy.most_rows() == 3
    assert policy.pick(waiting(policy, ticket(1, 100), ticket(2, 3)), most_rows=3, now_ns=0).steps == 16
    assert policy.pick(waiting(policy, ticket(1, 5), ticket(2, 3)), most_rows=3, now_ns=0).steps == 5


@pytest.mark.parametrize("name", ["stepwise", "whole"])
def test_padding_and_time_are_less_than_in_order_of_arrival_on_lengths_as_they_come(name: str) -> None:
    seed = seeded(4)
    lengths = [log_normal_steps(seed) for _ in range(400)]
    cost = ENGINE.warm_cost()
    policies: dict[str, Policy] = {
        "stepwise": Stepwise(cost, tick_seconds=0.01, max_rows=32),
        "whole": WholeSequence(cost, max_rows=32),
    }

    seconds, real = run_to_the_end(policies[name], cost, lengths)
    fifo_seconds, fifo_real = run_to_the_end(Fifo(cost, max_rows=32), cost, lengths)

    assert seconds < 0.65 * fifo_seconds
    assert real > 1.7 * fifo_real


@pytest.mark.parametrize("name", ["stepwise", "whole", "equal"])
@given(patience_ms=st.lists(st.integers(0, 10), min_size=2, max_size=12))
def test_the_earliest_of_binding_deadlines_goes_first_among_equal_lengths(name: str, patience_ms: list[int]) -> None:
    policy = POLICIES[name](ENGINE.warm_cost())
    these = [ticket(number, 100, deadline_ns=ms * 1_000_000) for number, ms in enumerate(patience_ms)]

    deadlines = [row.ticket.deadline_ns for row in waiting(policy, *these)]

    assert deadlines == sorted(deadlines)
    first = policy.pick(waiting(policy, *these), most_rows=1, now_ns=0).rows[0]
    assert first.ticket.deadline_ns == min(deadlines)


def test_a_handicap_shifts_the_order_by_as_much_as_a_later_arrival() -> None:
    policy = POLICIES["stepwise"](ENGINE.warm_cost())
    behind = ticket(1, enqueued_ns=0, handicap_ns=101)
    ahead = ticket(2, enqueued_ns=100)
    put_forward = ticket(3, enqueued_ns=150, handicap_ns=-51)

    assert [row.ticket.id for row in waiting(policy, behind, ahead, put_forward)] == [3, 2, 1]


def test_a_long_row_yields_to_short_ones_for_twice_as_long_as_it_runs() -> None:
    long = ticket(1, 1000)
    seconds = 0.3

    assert latest_start_ns(long, seconds) == 2 * 0.3 * SECOND_NS
    assert latest_start_ns(ticket(1, 1000, deadline_ns=SECOND_NS // 2), seconds) == pytest.approx(0.2 * SECOND_NS)


def test_a_group_leaves_out_the_long_row_that_would_make_a_short_one_late() -> None:
    policy = POLICIES["whole"](ENGINE.warm_cost())
    short = ticket(1, 100, deadline_ns=int(8e6))
    longer = ticket(2, 110)
    too_long = ticket(3, 150)

    assert picked(policy, short, longer, too_long) == [1, 2]
    assert picked(policy, ticket(1, 100, deadline_ns=int(50e6)), longer, too_long) == [1, 2, 3]


def test_a_group_is_kept_whole_for_a_row_that_is_late_in_any_case() -> None:
    policy = POLICIES["whole"](ENGINE.warm_cost())

    assert picked(policy, ticket(1, 100, deadline_ns=1000), ticket(2, 110), ticket(3, 150)) == [1, 2, 3]


def test_equal_lengths_look_past_rows_of_other_lengths() -> None:
    policy = POLICIES["equal"](ENGINE.warm_cost())

    assert picked(policy, ticket(1, 5), ticket(2, 6), ticket(3, 5), ticket(4, 7), ticket(5, 5)) == [1, 3, 5]


HANDICAP_NS = 5_000_000
LONGEST = 20
QUEUE_ROWS = 24
ARRIVALS = st.lists(
    st.tuples(
        st.integers(1, LONGEST),
        st.one_of(st.none(), st.integers(1, 30)),
        st.integers(-HANDICAP_NS, HANDICAP_NS),
    ),
    min_size=1,
    max_size=8,
)


def outlast(policy: Policy, cost: CostModel, victim_steps: int, arrivals: Sequence[tuple[int, int | None, int]]) -> int:
    """Keep the queue full of what comes after one ticket, until that ticket is done; returns the last to overtake it."""
    batcher = Batcher(policy, cost, max_queue_rows=QUEUE_ROWS)
    assert batcher.admit(ticket(0, victim_steps, handicap_ns=HANDICAP_NS), now_ns=0) is None
    (victim,) = batcher._live[0].rows
    now_ns, number, last_ns = 0, 0, 0
    for _ in range(3000):
        for _ in range(QUEUE_ROWS):
            number += 1
            steps, patience_ms, handicap_ns = arrivals[number % len(arrivals)]
            deadline_ns = NEVER_NS if patience_ms is None else now_ns + patience_ms * 1_000_000
            new = ticket(number, steps, enqueued_ns=now_ns, deadline_ns=deadline_ns, handicap_ns=handicap_ns)
            if batcher.admit(new, now_ns=now_ns) is None and batcher._live[number].rows[0].order < victim.order:
                last_ns = now_ns
        batch = batcher.poll(now_ns).batch
        assert batch is not None
        now_ns += int(batch.predicted_seconds * SECOND_NS)
        if 0 in {each.id for each in batcher.finished(batch)}:
            return last_ns
    raise AssertionError("starved")


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=25)
@given(victim_steps=st.integers(1, LONGEST), arrivals=ARRIVALS)
def test_nobody_starves_and_who_comes_late_enough_comes_behind(
    name: str, victim_steps: int, arrivals: list[tuple[int, int | None, int]]
) -> None:
    """However traffic looks: after its latest start, plus a handicap and the longest run, nobody overtakes a ticket."""
    cost = ENGINE.warm_cost()
    policy = POLICIES[name](cost)
    longest_ns = int(cost.seconds(policy.most_rows(), LONGEST) * SECOND_NS)
    latest_ns = policy.key_ns(ticket(0, victim_steps, handicap_ns=HANDICAP_NS), victim_steps)

    assert outlast(policy, cost, victim_steps, arrivals) <= latest_ns + HANDICAP_NS + longest_ns
