"""What a runner reports of its work, for the metrics."""

import pytest

from serving.manifest import Manifest, read_manifest
from tests.runner.house import POISON, House
from tests.support.artefacts import write_lstm

MS = 1_000_000


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True))


@pytest.fixture
def house(stepwise: Manifest) -> House:
    """A runner whose calls are chunks of two steps, and take 5 ms each."""
    house = House(stepwise)
    house.engine.during = lambda: _pass(house, 5 * MS)
    return house


def test_a_row_counts_once_however_many_calls_it_takes(house: House) -> None:
    house.put(1, lengths=[6, 1])

    house.run_all()

    assert len(house.figures.ran) == 3
    assert house.figures.done == 2


def test_rows_of_a_late_answer_do_not_count(house: House) -> None:
    house.put(1, lengths=[2], deadline_ns=4 * MS)
    in_time = house.put(2, lengths=[2])

    house.run_all()

    assert in_time.totals == [12]
    assert house.figures.done == 1


def test_the_engines_part_of_a_call_is_told_from_packing_and_scattering(house: House) -> None:
    house.put(1, lengths=[2])

    house.run_all()

    assert house.figures.parts_ns == [(0, 5 * MS, 0)]


def test_each_call_is_told_with_its_prediction_and_what_it_took(house: House) -> None:
    predicted = house.cost.seconds(1, 2)
    house.put(1, lengths=[4])

    house.run_all()

    first, second = house.figures.costs
    assert first == (predicted, pytest.approx(0.005))
    assert second[0] > predicted, "the second call is predicted with what the first one taught"


def test_a_call_that_failed_teaches_nothing_about_cost(house: House) -> None:
    house.put(POISON, lengths=[2])

    house.run_all()

    assert house.figures.failed == 1
    assert house.figures.costs == []
    assert house.figures.done == 0


def test_rows_accepted_are_told_until_they_are_computed(house: House) -> None:
    house.put(1, lengths=[2, 4])
    assert house.figures.live_rows() == 2

    house.runner.step()
    assert house.figures.live_rows() == 1

    house.run_all()
    assert house.figures.live_rows() == 0


def _pass(house: House, nanoseconds: int) -> None:
    house.clock.ns += nanoseconds
