"""Engines whose calls take as long as the rows' real steps: what is learned of them, and what mixed lengths gain."""

import functools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching import Batcher, CostModel, Fifo, Policy, Stepwise, Ticket, WholeSequence
from serving.batching.tickets import Row
from tests.batching.house import Engine, queue_of, seeded, ticket, tickets
from tests.batching.simulator import Arrival, Outcome, Simulation, log_normal_steps, poisson

ENGINE = Engine(padding_free=True)
PADDED = Engine()
"""The same coefficients, by which padding costs as much as real steps."""
COEFFICIENTS = ("call", "row", "step", "row_step")
LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


def teach(cost: CostModel, calls: int = 600) -> None:
    """Show it calls of mixed lengths."""
    seed = seeded(calls)
    for _ in range(calls):
        lengths = [log_normal_steps(seed) for _ in range(seed.randint(1, 48))]
        shape = len(lengths), max(lengths), sum(lengths)
        cost.observe(rows=shape[0], steps=shape[1], real_steps=shape[2], seconds=ENGINE.seconds(*shape))


def test_calls_of_mixed_lengths_tell_what_a_real_step_costs() -> None:
    cost = CostModel(padding_free=True)
    teach(cost)

    learned = cost.coefficients()
    assert learned.row_step == pytest.approx(ENGINE.row_step, rel=0.001)
    assert learned.step == pytest.approx(ENGINE.step, rel=0.001)
    assert learned.call == pytest.approx(ENGINE.call, rel=0.02)


def test_a_model_that_charges_for_padding_cannot_learn_it() -> None:
    cost = CostModel()
    teach(cost)

    assert cost.coefficients().row_step < 0.8 * ENGINE.row_step


@given(
    calls=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 400), st.floats(1e-5, 1.0)), max_size=20),
    asked=st.tuples(st.integers(1, 64), st.integers(1, 400)),
)
def test_of_equal_lengths_both_models_say_the_same(calls: list[tuple[int, int, float]], asked: tuple[int, int]) -> None:
    free, padded = CostModel(padding_free=True), CostModel()
    for rows, steps, seconds in calls:
        free.observe(rows=rows, steps=steps, real_steps=rows * steps, seconds=seconds)
        padded.observe(rows=rows, steps=steps, seconds=seconds)

    assert free.seconds(*asked, asked[0] * asked[1]) == padded.seconds(*asked)


@given(lengths=LENGTHS)
def test_no_call_costs_more_without_padding_and_only_unequal_rows_cost_less(lengths: list[int]) -> None:
    shape = len(lengths), max(lengths), sum(lengths)
    free, padded = ENGINE.warm_cost(), PADDED.warm_cost()
    assert [getattr(free.coefficients(), each) for each in COEFFICIENTS] == [
        getattr(padded.coefficients(), each) for each in COEFFICIENTS
    ]

    spared = padded.seconds(*shape) - free.seconds(*shape)

    assert spared == pytest.approx(ENGINE.row_step * (shape[0] * shape[1] - shape[2]), rel=1e-3, abs=1e-9)
    assert spared >= 0.0


@pytest.mark.parametrize("kind", ["stepwise", "whole"])
@given(lengths=LENGTHS)
def test_every_batch_is_predicted_by_its_real_steps_and_learned_from_by_them(kind: str, lengths: list[int]) -> None:
    cost = ENGINE.warm_cost()
    batcher = Batcher(_policy(kind, cost, 8), cost, max_queue_rows=1024)
    for each in tickets(lengths):
        assert batcher.admit(each, now_ns=0) is None

    while (batch := batcher.poll(0).batch) is not None:
        seconds = ENGINE.seconds(batch.rows, batch.steps, batch.real_steps)
        assert batch.predicted_seconds == pytest.approx(seconds, rel=1e-3)
        batcher.learn(batch, seconds=seconds)
        batcher.finished(batch)
    assert cost.coefficients().row_step == pytest.approx(ENGINE.row_step, rel=1e-3)


def test_it_shows_that_it_counts_real_steps() -> None:
    assert repr(ENGINE.warm_cost()).endswith("5.00 us per row and real step)")


def test_a_chunk_goes_on_past_short_rows_where_their_padding_costs_nothing() -> None:
    lengths = [10] * 16 + [100] * 16

    def chunk(*, padding_free: bool) -> int:
        cost = Engine(step=5e-6, padding_free=padding_free).warm_cost()
        rows = [Row(each, 0, each.id) for each in tickets(lengths)]
        return Stepwise(cost, tick_seconds=1.0, max_rows=32).pick(queue_of(rows), most_rows=32, now_ns=0).steps

    assert chunk(padding_free=False) == 10
    assert chunk(padding_free=True) == 100


def test_unequal_rows_do_not_make_the_backlog_look_dearer_than_it_is() -> None:
    """What calls of mixed lengths took is no more, for their real steps, than what rows of one length take."""
    engine = Engine(call=1e-6, step=1e-6, padding_free=True)
    cost = engine.warm_cost()
    batcher = Batcher(Fifo(cost, max_rows=8), cost, max_queue_rows=80)
    for each in tickets([10, 200] * 40):
        assert batcher.admit(each, now_ns=0) is None
    at_first = batcher.backlog_seconds

    for _ in range(5):
        batch = batcher.poll(0).batch
        assert batch is not None
        batcher.learn(batch, seconds=engine.seconds(batch.rows, batch.steps, batch.real_steps))

    assert batcher.backlog_seconds == pytest.approx(at_first, rel=0.05)


def test_a_group_keeps_the_long_row_whose_steps_make_nobody_late() -> None:
    """Ten rows of 100 steps beside one of 150 take 13 ms, and 16 ms if all are computed up to 150."""
    short = [ticket(number, 100, deadline_ns=int(14.5e6)) for number in range(10)]
    long = ticket(10, 150)

    assert len(_picked(ENGINE, [*short, long])) == 11
    assert len(_picked(PADDED, [*short, long])) == 10


@functools.cache
def saturated(kind: str, callers: int, *, model_pads: bool, step: float = ENGINE.step) -> Outcome:
    """Run callers that each send a next request, of a length as they come, when they have the answer to the last."""
    engine = Engine(step=step, padding_free=True)
    seed, left = seeded(1), iter(range(3000))

    def then(now_ns: int) -> Arrival | None:
        return None if next(left, None) is None else Arrival(now_ns, log_normal_steps(seed))

    batcher = _batcher(kind, Engine(step=step, padding_free=not model_pads), max_rows=32)
    return Simulation(batcher, engine, then=then).run([Arrival(0, log_normal_steps(seed)) for _ in range(callers)])


@pytest.mark.parametrize("step", [5e-6, 2e-5, 5e-5])
@pytest.mark.parametrize("callers", [48, 80, 256])
def test_whole_sequences_gain_where_the_model_knows_that_padding_is_free(callers: int, step: float) -> None:
    """Measured: 1.01 to 1.08 times the requests per second, in calls of 32 rows instead of 10 to 26."""
    knows = saturated("whole", callers, model_pads=False, step=step)
    pads = saturated("whole", callers, model_pads=True, step=step)

    assert len(knows.answers) == len(pads.answers) == 3000 + callers
    assert knows.ended_ns < 0.995 * pads.ended_ns
    assert pads.calls > 1.15 * knows.calls


def test_streams_lose_nothing_where_the_model_knows_that_padding_is_free() -> None:
    knows, pads = (saturated("stepwise", 256, model_pads=model_pads) for model_pads in (False, True))

    assert knows.ended_ns <= pads.ended_ns
    assert knows.calls < pads.calls


@pytest.mark.parametrize("kind", ["stepwise", "whole"])
def test_under_overload_what_is_admitted_is_answered_in_time(kind: str) -> None:
    seed = seeded(7)
    arrivals = poisson(6000, 1.0, lambda: log_normal_steps(seed), lambda: 200_000_000, seed)

    outcome = Simulation(_batcher(kind, ENGINE), ENGINE).run(arrivals)

    assert len(outcome.refused) > 1000
    assert len(outcome.late) <= 0.01 * outcome.admitted


def _policy(kind: str, cost: CostModel, max_rows: int | None) -> Policy:
    if kind == "stepwise":
        return Stepwise(cost, tick_seconds=0.01, max_rows=max_rows)
    return WholeSequence(cost, max_rows=max_rows)


def _batcher(kind: str, known: Engine, *, max_rows: int | None = None) -> Batcher:
    """Make one whose cost model believes at first that the engine is `known`."""
    cost = known.warm_cost()
    return Batcher(_policy(kind, cost, max_rows), cost, max_queue_rows=1024)


def _picked(engine: Engine, these: Sequence[Ticket]) -> Sequence[Row]:
    policy = WholeSequence(engine.warm_cost(), max_rows=16)
    rows = [Row(each, 0, number) for number, each in enumerate(these)]
    return policy.pick(queue_of(rows), most_rows=16, now_ns=0).rows
