"""What a runner tells the traces of its requests: who was in which engine call, and when."""

from pathlib import Path

import pytest

from serving.errors import ServingError
from serving.inbox import EngineCall
from serving.manifest import read_manifest
from tests.runner.house import POISON, House, Outcome, rows_of
from tests.support.artefacts import write_lstm


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A runner of a stepwise model, in chunks of two steps."""
    return House(read_manifest(write_lstm(tmp_path, bidirectional=False, stepwise=True)))


class Told:
    """A trace that keeps what it is told."""

    def __init__(self) -> None:
        self.times: list[tuple[str, int]] = []
        self.calls: list[tuple[EngineCall, int]] = []

    def queued(self, now_ns: int) -> None:
        self.times.append(("queued", now_ns))

    def started(self, now_ns: int) -> None:
        self.times.append(("started", now_ns))

    def engine_ran(self, call: EngineCall, *, rows: int) -> None:
        self.calls.append((call, rows))


def test_a_request_is_told_each_engine_call_with_its_rows_in_it(house: House) -> None:
    """Rows of 5 and 3 steps in chunks of two, beside an untraced row of one step."""
    told = Told()

    def a_call_takes_seven() -> None:
        house.clock.ns += 7

    house.engine.during = a_call_takes_seven
    house.clock.ns = 100
    house.runner.put(rows_of(1, [5, 3]), Outcome(), trace=told)
    house.put(2, lengths=[1])
    house.clock.ns = 130
    house.run_all()

    assert told.times == [("queued", 100), ("started", 130)]
    assert [(call.rows, call.steps, rows) for call, rows in told.calls] == [(3, 2, 2), (2, 2, 2), (1, 1, 1)]
    assert [(call.started_ns, call.ended_ns) for call, _ in told.calls] == [(130, 137), (137, 144), (144, 151)]
    assert told.calls[0][0].padding_efficiency == pytest.approx(5 / 6)
    assert not any(call.failed for call, _ in told.calls)


def test_a_failed_call_is_told_as_one_and_so_are_the_rows_that_are_run_again(house: House) -> None:
    good, bad = Told(), Told()
    house.runner.put(rows_of(1, [2]), Outcome(), trace=good)
    house.runner.put(rows_of(POISON, [2]), Outcome(), trace=bad)
    house.put(2)

    house.run_all()

    assert [(call.rows, call.failed) for call, _ in good.calls] == [(3, True), (1, False)]
    assert [(call.rows, call.failed) for call, _ in bad.calls] == [(3, True), (1, True)]


def test_a_refused_request_was_never_queued(house: House) -> None:
    told = Told()
    house.runner.drain()

    with pytest.raises(ServingError):
        house.runner.put(rows_of(1, [2]), Outcome(), trace=told)

    assert told.times == []
