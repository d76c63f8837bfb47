"""The runner's turn: every request gets exactly one answer or one error, and a bad one fails alone."""

import logging
import threading

import numpy as np
import pytest

from serving.batching import Batch, Batcher, Limits
from serving.errors import Cancelled, DeadlineExceeded, Draining, EngineError, QueueFull, ServingError
from serving.manifest import Manifest, read_manifest
from serving.runner import Runner
from serving.tensors import Array, Arrays, Rows
from tests.support.artefacts import FEATURES, write_lstm

WIDTH = 8


class ManualClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns


class SummingEngine:
    """Answers each row with its own sum, so that an answer in the wrong hands shows; fails on a row that says so."""

    device = "cpu"
    POISON = 666.0

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, feed: Arrays) -> Arrays:
        x = feed["x"]
        self.batches.append(len(x))
        if (x == self.POISON).any():
            raise RuntimeError("poisoned")
        totals = x.sum(axis=(1, 2))
        return {
            "steps": np.repeat(np.repeat(totals[:, None, None], x.shape[1], 1), WIDTH, 2),
            "last": np.repeat(totals[:, None], WIDTH, 1),
        }


class Outcome:
    """Keeps what a reply was given."""

    def __init__(self) -> None:
        self.answers: list[Arrays] = []
        self.errors: list[ServingError] = []

    def answer(self, outputs: Arrays) -> None:
        self.answers.append(outputs)

    def fail(self, error: ServingError) -> None:
        self.errors.append(error)

    @property
    def total(self) -> float:
        assert not self.errors
        (answer,) = self.answers
        return float(answer["last"][0, 0])

    @property
    def error(self) -> ServingError:
        assert not self.answers
        (error,) = self.errors
        return error


class Figures:
    """Keeps what the runner reports."""

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.ran: list[tuple[int, int]] = []
        self.failed = 0
        self.started: list[int] = []

    def queued(self, rows: int) -> None:
        self.queue.append(rows)

    def batch_started(self, batch: Batch) -> None:
        self.started.append(batch.rows)

    def batch_ran(self, batch: Batch, *, started_ns: int, finished_ns: int) -> None:
        assert started_ns <= finished_ns
        self.ran.append((batch.rows, batch.steps))

    def batch_failed(self, batch: Batch) -> None:
        assert batch.tickets
        self.failed += 1


class House:
    """A runner with everything around it in view."""

    def __init__(self, manifest: Manifest, *, max_batch_rows: int = 8, max_queue_rows: int = 16) -> None:
        self.clock = ManualClock()
        self.engine = SummingEngine()
        self.figures = Figures()
        self.runner = Runner(
            manifest=manifest,
            engine=self.engine,
            batcher=Batcher(Limits(max_batch_rows=max_batch_rows, max_queue_rows=max_queue_rows)),
            clock=self.clock,
            metrics=self.figures,
        )

    def put(self, value: float, *, rows: int = 1, steps: int = 2, deadline_ns: int | None = None) -> Outcome:
        outcome = Outcome()
        self.runner.put(request(value, rows=rows, steps=steps), outcome, deadline_ns=deadline_ns)
        return outcome


def request(value: float, *, rows: int = 1, steps: int = 2) -> Rows:
    x: Array = np.full((rows, steps, FEATURES), value, np.float32)
    return Rows(inputs={"x": x}, lengths=np.full(rows, steps), time=steps)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models")))


@pytest.fixture
def house(manifest: Manifest) -> House:
    return House(manifest)


def test_waiting_requests_of_different_lengths_share_one_engine_call(house: House) -> None:
    outcomes = [house.put(value, steps=steps) for value, steps in ((1, 2), (2, 5), (3, 1))]

    assert house.runner.step() is True
    assert house.engine.batches == [3]
    assert [outcome.total for outcome in outcomes] == [1 * 2 * 3, 2 * 5 * 3, 3 * 1 * 3]
    assert house.figures.ran == [(3, 5)]
    assert house.figures.queue == [1, 2, 3, 0]


def test_an_idle_step_does_nothing(house: House) -> None:
    assert house.runner.step() is False
    assert house.engine.batches == []


def test_a_poisoned_batch_fails_its_culprit_only(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The batch is run again one by one; the culprit's error carries the id under which the log has the cause."""
    good, bad, also_good = house.put(1), house.put(SummingEngine.POISON), house.put(2)

    with caplog.at_level(logging.ERROR):
        house.runner.step()

    assert (good.total, also_good.total) == (6, 12)
    assert isinstance(bad.error, EngineError)
    assert "poisoned" not in str(bad.error)
    (record,) = caplog.records
    assert str(bad.error).rsplit(" ", 1)[1] in record.getMessage()
    assert house.engine.batches == [3, 1, 1, 1]
    assert house.figures.failed == 2
    assert house.figures.started == [3, 1, 1, 1]


def test_an_expired_request_is_told_and_never_run(house: House) -> None:
    late = house.put(1, deadline_ns=100)
    on_time = house.put(2, deadline_ns=101)
    house.clock.ns = 100

    house.runner.step()

    assert isinstance(late.error, DeadlineExceeded)
    assert on_time.total == 12
    assert house.engine.batches == [1]


def test_a_cancelled_request_leaves_the_queue_and_is_told_once(house: House) -> None:
    outcome = Outcome()
    ticket_id = house.runner.put(request(1), outcome)
    house.runner.cancel(ticket_id)
    house.runner.cancel(ticket_id)

    assert house.runner.step() is False
    assert isinstance(outcome.error, Cancelled)
    assert house.figures.queue[-1] == 0


def test_cancelling_what_was_answered_changes_nothing(house: House) -> None:
    outcome = Outcome()
    ticket_id = house.runner.put(request(1), outcome)
    house.runner.step()
    house.runner.cancel(ticket_id)

    assert outcome.total == 6


def test_a_full_queue_refuses_at_once_and_says_how_full_it_is(manifest: Manifest) -> None:
    house = House(manifest, max_batch_rows=2, max_queue_rows=4)
    house.put(1, rows=3)

    with pytest.raises(QueueFull, match="3 rows wait"):
        house.put(1, rows=2)
    assert house.put(2, rows=1) is not None


def test_a_deadline_in_the_past_is_refused_at_arrival(house: House) -> None:
    house.clock.ns = 50
    with pytest.raises(DeadlineExceeded):
        house.put(1, deadline_ns=50)


def test_a_drained_runner_answers_what_waits_and_takes_nothing_new(house: House) -> None:
    before = house.put(1)
    house.runner.drain()

    with pytest.raises(Draining):
        house.put(2)
    house.runner.start()
    house.runner.join()
    assert before.total == 6


def test_many_threads_get_exactly_their_own_answers(manifest: Manifest) -> None:
    """Eight callers of fifty requests each, against the running loop: nothing lost, nothing swapped."""
    house = House(manifest, max_batch_rows=8, max_queue_rows=400)
    house.runner.start()
    outcomes: dict[int, Outcome] = {}

    def call(caller: int) -> None:
        for number in range(50):
            value = caller * 50 + number
            outcomes[value] = house.put(value, steps=1 + value % 4)

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    house.runner.drain()
    house.runner.join()

    assert {value: outcome.total for value, outcome in outcomes.items()} == {
        value: value * (1 + value % 4) * FEATURES for value in range(400)
    }
