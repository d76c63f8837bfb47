"""Deadlines: told on time wherever the request is, and refused at once if they cannot be met."""

import pytest

from serving.errors import DeadlineExceeded, Overloaded
from tests.runner.house import House, Outcome

MS = 1_000_000
S = 1_000_000_000


def test_an_expired_request_is_told_and_never_run(house: House) -> None:
    late = house.put(1, deadline_ns=100 * MS)
    on_time = house.put(2, deadline_ns=101 * MS)
    house.clock.ns = 100 * MS

    house.runner.step()

    assert isinstance(late.error, DeadlineExceeded)
    assert on_time.totals == [12]
    assert house.engine.calls == [(1, 2)]


def test_a_deadline_that_passes_while_the_engine_computes_is_told_at_once(house: House) -> None:
    """The caller does not wait for the call to end, and what comes of it is dropped."""
    outcome = house.put(1, deadline_ns=100 * MS)

    def late() -> None:
        house.clock.ns = 100 * MS
        house.runner.expire()
        assert isinstance(outcome.error, DeadlineExceeded)

    house.engine.during = late
    house.runner.step()

    assert isinstance(outcome.error, DeadlineExceeded)
    assert house.batcher.live_tickets == 0


def test_an_answer_that_comes_after_its_deadline_is_no_answer(house: House) -> None:
    outcome = house.put(1, deadline_ns=100 * MS)

    def slow() -> None:
        house.clock.ns = 100 * MS

    house.engine.during = slow
    house.runner.step()

    assert isinstance(outcome.error, DeadlineExceeded)


def test_a_clock_that_jumps_a_day_ahead_loses_nobody_and_teaches_little(house: House) -> None:
    """As when a machine was suspended, in the middle of a call: who had a deadline has missed it; the rest goes on."""

    def compute() -> None:
        house.clock.ns += 2 * MS

    house.engine.during = compute
    for value in range(50):
        house.put(value)
        house.run_all()
    before = house.cost.seconds(1, 2)
    dated, patient = house.put(1, deadline_ns=60 * S), house.put(2)
    waiting = [house.put(3, deadline_ns=90 * S, lengths=[4]), house.put(4, lengths=[4])]

    def jump() -> None:
        house.engine.during = compute
        house.clock.ns += 24 * 3600 * S

    house.engine.during = jump
    house.run_all()

    for late in (dated, waiting[0]):
        assert isinstance(late.error, DeadlineExceeded)
    assert patient.totals == [12]
    assert waiting[1].totals == [48]
    assert house.batcher.live_tickets == 0
    assert house.cost.seconds(1, 2) == pytest.approx(before, rel=0.1)
    later = house.put(5, deadline_ns=house.clock.ns + S)
    house.run_all()
    assert later.totals == [30]


def test_a_deadline_in_the_past_is_refused_at_arrival(house: House) -> None:
    house.clock.ns = 50
    with pytest.raises(DeadlineExceeded, match="had passed when the request arrived"):
        house.put(1, deadline_ns=50)


def test_what_cannot_be_met_behind_the_backlog_is_refused_with_a_hint_that_holds(house: House) -> None:
    """After the hint, on a server where nothing else came, the same request with the same patience is taken."""
    house.cost.warm_start([(1, 1, 0.01), (1, 100, 0.1), (8, 1, 0.01), (8, 100, 0.8)])
    patience_ns = 1_200 * MS
    taken: list[Outcome] = []

    with pytest.raises(Overloaded, match="seconds of work already") as refused:
        taken.extend(house.put(1, lengths=[100], deadline_ns=patience_ns) for _ in range(16))

    hint = refused.value.retry_after_ms
    assert hint is not None
    assert hint > 0
    house.clock.ns = hint * MS
    house.run_all()
    assert 4 < len(taken) < 16
    assert all(outcome.totals for outcome in taken)
    assert house.put(2, lengths=[100], deadline_ns=house.clock.ns + patience_ns)


def test_what_could_not_be_met_on_an_idle_server_is_refused_as_late_not_as_overload(house: House) -> None:
    house.cost.warm_start([(1, 1, 0.01), (1, 100, 1.0), (8, 1, 0.01), (8, 100, 1.0)])
    house.put(1)

    with pytest.raises(DeadlineExceeded, match=r"takes about .* ms for a sequence of this length on an idle server"):
        house.put(1, lengths=[100], deadline_ns=100 * MS)
