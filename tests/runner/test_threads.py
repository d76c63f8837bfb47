"""The runner's own threads: many callers, several instances, deadlines on time, drains that end."""

import threading

import pytest

from serving.errors import Cancelled, DeadlineExceeded, ServingError
from serving.manifest import Manifest, read_manifest
from tests.runner.house import POISON, House, Outcome, rows_of
from tests.support.artefacts import FEATURES, write_lstm

SECONDS = 60


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "stepwise"])
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    stepwise = bool(request.param)
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=stepwise))


class Awaited(Outcome):
    """An outcome that a thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._there = threading.Event()

    def answer(self, outputs: object) -> None:
        super().answer(outputs)  # type: ignore[arg-type]
        self._there.set()

    def fail(self, error: ServingError) -> None:
        super().fail(error)
        self._there.set()

    def wait(self) -> None:
        assert self._there.wait(SECONDS), "no answer and no error"


@pytest.mark.parametrize("instances", [1, 3])
def test_many_threads_get_exactly_their_own_answers(manifest: Manifest, instances: int) -> None:
    """Eight callers of fifty requests each: some poisoned, some cancelled, nothing lost, nothing swapped."""
    house = House(manifest, max_queue_rows=2_000, instances=instances)
    house.runner.start()
    outcomes: dict[int, Awaited] = {}

    def call(caller: int) -> None:
        for number in range(50):
            value = caller * 50 + number
            lengths = [1 + (value + row) % 7 for row in range(1 + value % 3)]
            outcomes[value] = Awaited()
            ticket = house.send(rows_of(POISON if value % 40 == 7 else value, lengths), outcomes[value])
            if value % 10 == 3:
                house.runner.cancel(ticket)

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for outcome in outcomes.values():
        outcome.wait()
    house.runner.drain()
    house.runner.join()

    for value, outcome in outcomes.items():
        assert len(outcome.answers) + len(outcome.errors) == 1
        if value % 40 == 7 or (value % 10 == 3 and outcome.errors):
            assert outcome.errors
        else:
            assert outcome.totals == [value * (1 + (value + row) % 7) * FEATURES for row in range(1 + value % 3)]
    assert house.batcher.live_tickets == house.batcher.waiting_rows == 0


def test_two_instances_compute_at_the_same_time(manifest: Manifest) -> None:
    """Each call waits for the other one to be in the engine as well, and each takes a share of the rows."""
    house = House(manifest, instances=2)
    both = threading.Barrier(2, timeout=SECONDS)
    house.engine.during = lambda: both.wait()  # noqa: PLW0108  it returns a number
    outcomes = [house.put(value, lengths=[2]) for value in (1, 2, 3, 4)]
    house.runner.start()
    house.runner.drain()
    house.runner.join()

    assert [outcome.totals for outcome in outcomes] == [[6], [12], [18], [24]]
    assert [rows for rows, _ in house.engine.calls] == [2, 2]


def test_a_deadline_is_told_while_every_instance_is_in_a_long_call(manifest: Manifest) -> None:
    """The one who waits is told by the clock, not by the end of the call; so is the one in the engine."""
    house = House(manifest, max_rows=1)
    started, may_end = threading.Event(), threading.Event()

    def long_call() -> None:
        started.set()
        assert may_end.wait(SECONDS)

    house.engine.during = long_call
    running = house.put(1)
    house.runner.start()
    assert started.wait(SECONDS)
    expiring = Awaited()
    house.send(rows_of(2, [2]), expiring, deadline_ns=1_000_000)
    house.clock.ns = 1_000_000
    expiring.wait()

    assert isinstance(expiring.error, DeadlineExceeded)
    assert not running.made
    may_end.set()
    house.runner.drain()
    house.runner.join()
    assert running.totals == [6]
    assert len(house.engine.calls) == 1


def test_a_drain_ends_when_the_last_request_is_cancelled(manifest: Manifest) -> None:
    house = House(manifest, instances=2)
    outcome = Outcome()
    ticket = house.send(rows_of(1, [2]), outcome)
    house.engine.during = lambda: house.runner.cancel(ticket)
    house.runner.start()
    house.runner.drain()
    house.runner.join()

    assert isinstance(outcome.error, Cancelled)


def test_an_engine_that_raises_without_end_loses_nobody(manifest: Manifest) -> None:
    house = House(manifest)

    def raise_always() -> None:
        raise MemoryError

    house.engine.during = raise_always
    outcomes = [Awaited() for _ in range(5)]
    for outcome in outcomes:
        house.send(rows_of(1, [3]), outcome)
    house.runner.start()
    for outcome in outcomes:
        outcome.wait()
    house.runner.drain()
    house.runner.join()

    assert all(outcome.error.reason == "internal" for outcome in outcomes)
