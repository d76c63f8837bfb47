"""The batcher's benchmark runs every workload from beginning to end, and each is what its name says."""

import pytest

from loadtests.benchmarks.batcher import WORKLOADS, main
from loadtests.benchmarks.batcher_driving import Workload, drive


def test_it_prints_a_line_for_each_workload(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["--quick"]) == 0

    printed = capsys.readouterr().out
    assert all(workload.name in printed for workload in WORKLOADS)


def test_without_deadlines_and_with_far_ones_nothing_is_refused_or_cancelled() -> None:
    for workload in (Workload(policy="equal", live=64), Workload(policy="stepwise", live=64, deadlines="met")):
        costs = drive(workload, 200)

        assert costs.left >= 200
        assert costs.offered <= costs.left
        assert costs.refused == costs.cancelled == 0
        assert all(us is None or us > 0 for us in costs.microseconds)


def test_under_overload_most_tickets_are_refused() -> None:
    costs = drive(Workload(policy="whole", live=64, deadlines="overload"), 200)

    assert costs.refused_share > 0.5


def test_of_cancelled_workloads_some_callers_go_before_their_answer() -> None:
    costs = drive(Workload(policy="stepwise", live=64, cancelled=0.25), 400)

    assert 0.05 < costs.cancelled / costs.offered < 0.3
