"""The runner's turn: every request gets exactly one answer or one error, and a bad one fails alone."""

import logging

import numpy as np
import pytest

from serving.errors import Cancelled, Draining, EngineError, QueueFull
from serving.manifest import Manifest
from tests.runner.house import POISON, House, Outcome, rows_of
from tests.support.artefacts import FEATURES

MS = 1_000_000
S = 1_000_000_000


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
