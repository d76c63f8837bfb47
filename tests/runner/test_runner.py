"""The runner's turn: every request gets exactly one answer or one error, and a bad one fails alone."""

import logging

import numpy as np
import pytest

from serving.errors import Cancelled, DeadlineExceeded, Draining, EngineError, Overloaded, QueueFull
from serving.manifest import Manifest, read_manifest
from tests.runner.house import POISON, House, Outcome, rows_of
from tests.support.artefacts import FEATURES, write_lstm

MS = 1_000_000
S = 1_000_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True))


@pytest.fixture(params=["whole", "stepwise"])
def house(request: pytest.FixtureRequest) -> House:
    """A runner of each kind; chunks of a stepwise one are two steps."""
    return House(request.getfixturevalue(request.param))


def test_requests_of_different_lengths_share_engine_calls(house: House) -> None:
    outcomes = [house.put(value, lengths=lengths) for value, lengths in ((1, [2]), (2, [5, 3]), (3, [1]))]

    house.run_all()

    assert house.engine.calls[0][0] == 4
    assert [outcome.totals for outcome in outcomes] == [[6], [30, 18], [9]]
    for outcome, lengths in zip(outcomes, ([2], [5, 3], [1]), strict=True):
        beyond = np.arange(max(lengths)) >= np.array(lengths)[:, None]
        assert not outcome.outputs["steps"][beyond].any()


def test_a_stepwise_model_runs_chunks_that_rows_join_and_leave(stepwise: Manifest) -> None:
    """A newcomer shares the second chunk of a long row, and is answered while that goes on."""
    house = House(stepwise)
    long = house.put(1, lengths=[6])
    house.runner.step()
    short = house.put(2, lengths=[2])
    house.runner.step()

    assert short.totals == [12]
    assert not long.made
    house.run_all()
    assert long.totals == [18]
    assert long.outputs["steps"][0, :, 0].tolist() == [3, 6, 9, 12, 15, 18]
    assert long.outputs["next_state"].tolist() == [[18] * 8]
    assert house.engine.calls == [(1, 2), (2, 2), (1, 2)]


def test_a_request_larger_than_a_batch_is_cut_and_put_together_again(house: House) -> None:
    lengths = [1 + row % 3 for row in range(11)]
    outcome = house.put(1, lengths=lengths)

    house.run_all()

    assert len(house.engine.calls) > 1
    assert max(rows for rows, _ in house.engine.calls) <= 8
    assert outcome.totals == [steps * FEATURES for steps in lengths]


def test_an_idle_turn_does_nothing(house: House) -> None:
    assert house.runner.step() is False
    assert house.engine.calls == []


def test_a_poisoned_batch_fails_its_culprit_only(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The batch is run again row by row; the culprit's error carries the id under which the log has the cause."""
    good, bad, also_good = house.put(1), house.put(POISON), house.put(2)

    with caplog.at_level(logging.ERROR):
        house.run_all()

    assert (good.totals, also_good.totals) == ([6], [12])
    assert isinstance(bad.error, EngineError)
    assert "poisoned" not in str(bad.error)
    (record,) = caplog.records
    assert str(bad.error).rsplit(" ", 1)[1] in record.getMessage()
    assert house.engine.calls == [(3, 2), (1, 2), (1, 2), (1, 2)]
    assert house.figures.failed == 2


def test_one_bad_row_fails_its_whole_request_once(house: House) -> None:
    """Its other rows are not run again."""
    rows = rows_of(1, [2, 2, 2])
    rows.inputs["x"][0] = POISON
    bad, good = Outcome(), house.put(1)
    house.send(rows, bad)

    house.run_all()

    assert isinstance(bad.error, EngineError)
    assert good.totals == [6]
    assert house.figures.failed == 2


def test_a_row_that_turns_bad_in_its_second_chunk_leaves_the_others_their_states(stepwise: Manifest) -> None:
    """The failed call changed nobody's state, so running the rows again does not count a chunk twice."""
    house = House(stepwise)
    rows = rows_of(1, [4])
    rows.inputs["x"][0, 3] = POISON
    good, bad = house.put(1, lengths=[4]), Outcome()
    house.send(rows, bad)

    house.run_all()

    assert good.totals == [12]
    assert isinstance(bad.error, EngineError)


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


def test_a_cancelled_request_leaves_the_queue_and_is_told_once(house: House) -> None:
    outcome = Outcome()
    ticket_id = house.send(rows_of(1, [2]), outcome)
    house.runner.cancel(ticket_id)
    house.runner.cancel(ticket_id)

    assert house.runner.step() is False
    assert isinstance(outcome.error, Cancelled)
    assert house.figures.waiting_rows() == 0


def test_a_request_cancelled_mid_sequence_frees_its_slot_at_the_next_chunk(stepwise: Manifest) -> None:
    house = House(stepwise, max_rows=1)
    leaving = Outcome()
    ticket_id = house.send(rows_of(1, [100]), leaving)
    house.engine.during = lambda: house.runner.cancel(ticket_id)
    house.runner.step()
    staying = house.put(2)
    house.run_all()

    assert isinstance(leaving.error, Cancelled)
    assert staying.totals == [12]
    assert house.engine.calls == [(1, 2), (1, 2)]


def test_cancelling_what_was_answered_changes_nothing(house: House) -> None:
    outcome = Outcome()
    ticket_id = house.send(rows_of(1, [2]), outcome)
    house.runner.step()
    house.runner.cancel(ticket_id)

    assert outcome.totals == [6]


def test_a_full_queue_refuses_at_once_and_says_how_full_it_is(whole: Manifest) -> None:
    house = House(whole, max_rows=2, max_queue_rows=4)
    house.put(1, lengths=[2, 2, 2])

    with pytest.raises(QueueFull, match="3 rows wait") as refused:
        house.put(1, lengths=[2, 2])
    assert refused.value.retry_after_ms is not None
    assert refused.value.retry_after_ms >= 1
    assert house.put(2)


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


def test_priority_goes_before_arrival(whole: Manifest) -> None:
    house = House(whole, max_rows=1)
    order: list[str] = []

    class Named(Outcome):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def answer(self, outputs: object) -> None:
            del outputs
            order.append(self.name)

    for name, priority in (("low", 9), ("default", None), ("high", 1)):
        house.send(rows_of(1, [2]), Named(name), priority=priority)
    house.run_all()

    assert order == ["high", "default", "low"]


def test_the_runner_reports_calls_waits_and_the_queue(house: House) -> None:
    house.put(1)
    house.clock.ns = 7
    house.put(2)
    assert house.figures.waiting_rows() == 2
    assert house.figures.backlog_seconds() > 0
    house.clock.ns = 10

    house.run_all()

    assert sorted(house.figures.waits_ns) == [3, 10]
    assert house.figures.ran == [(2, 2)]
    assert house.figures.waiting_rows() == house.figures.backlog_seconds() == 0


def test_a_drained_runner_answers_what_it_took_and_takes_nothing_new(house: House) -> None:
    before = house.put(1)
    house.runner.drain()

    with pytest.raises(Draining):
        house.put(2)
    house.runner.start()
    house.runner.join()
    assert before.totals == [6]
