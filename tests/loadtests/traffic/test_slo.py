"""Objectives: what the file may say, and what a run is worth by it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.capacity.__main__ import SLO
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.slo import Objectives, judge, read_objectives
from tests.loadtests.traffic.made import figures

unhurried = settings(deadline=None)  # the machine may be busy

STRICT = {
    "p50_seconds": 0.01, "p99_seconds": 0.02, "p999_seconds": 0.03, "error_share": 0.0, "shed_share": 0.0,
    "goodput_per_second": 100.0, "wrong_answers": 0,
}  # fmt: skip


def missed(objectives: Objectives, *args: object) -> list[str]:
    return [verdict.objective for verdict in judge(objectives, *args) if not verdict.kept]  # type: ignore[arg-type]


def test_a_run_that_just_keeps_all_objectives_passes() -> None:
    assert missed(Objectives(**STRICT), figures()) == []


@pytest.mark.parametrize(
    ("changed", "objective"),
    [
        ({"p50": 0.0101}, "p50, seconds"),
        ({"p99": 0.0201}, "p99, seconds"),
        ({"p999": 0.0301}, "p99.9, seconds"),
        ({"p99": float("nan")}, "p99, seconds"),
        ({"errors": 1}, "errors, share"),
        ({"shed": 1}, "shed, share"),
        ({"in_time": 99}, "answers in time per second"),
        ({"seconds": 1.01}, "answers in time per second"),
        ({"wrong": 1}, "wrong answers"),
        ({"ended": 99}, "lost requests"),
    ],
)
def test_each_objective_is_missed_by_a_little_too_much(changed: dict[str, float], objective: str) -> None:
    assert missed(Objectives(**STRICT), figures(**changed)) == [objective]


def test_wrong_lost_and_failed_requests_are_missed_without_any_file() -> None:
    nothing = Objectives.model_validate({})

    assert missed(nothing, figures(p99=1e9, shed=100, in_time=0)) == []
    assert missed(nothing, figures(wrong=1)) == ["wrong answers"]
    assert missed(nothing, figures(errors=1)) == ["errors, share"]
    assert missed(nothing, figures(ended=99)) == ["lost requests"]


def test_the_worst_stretch_decides_if_it_is_asked_for() -> None:
    objectives = Objectives(**STRICT, window_seconds=1.0)
    good, slow, empty = figures(), figures(p99=0.5), figures(due=0, answered=0, p50=float("nan"), p99=float("nan"))

    assert missed(objectives, good, [good, slow, good]) == ["p99 in the worst stretch, seconds"]
    assert missed(objectives, good, [good, empty]) == [], "nothing was due in it"
    assert missed(objectives, good, [good, figures(p999=float("nan"))]) == ["p99.9 in the worst stretch, seconds"]
    assert missed(objectives, good, [figures(p999=float("nan")), good]) == ["p99.9 in the worst stretch, seconds"]


@unhurried
@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_looser_limit_is_kept_whenever_a_tighter_one_is(limit: float, measured: float) -> None:
    tight, loose = (Objectives(p99_seconds=limit * factor) for factor in (1, 2))

    assert not missed(tight, figures(p99=measured)) or measured > limit
    assert missed(tight, figures(p99=measured)) or not missed(loose, figures(p99=measured))


def test_the_demos_objectives_can_be_read() -> None:
    assert read_objectives(SLO).wrong_answers == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("p98_seconds: 1\n", "p98_seconds: .*; the objectives are p50_seconds, p99_seconds"),
        ("p99_seconds: fast\n", "p99_seconds: .*'fast'"),
        ("p99_seconds: 0\n", "p99_seconds: .*greater than 0"),
        ("p99_seconds: .nan\n", "p99_seconds"),
        ("p99_seconds: .inf\n", "p99_seconds: .*finite"),
        ("error_share: 1.5\n", "error_share: .*less than or equal to 1"),
        ("wrong_answers: -1\n", "wrong_answers"),
        ("p99_seconds: 1\np99_seconds: 2\n", "'p99_seconds' is there twice"),
        ("- p99_seconds\n", "the file: "),
        ("p99_seconds: [\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(content)

    with pytest.raises(TrafficError, match=why):
        read_objectives(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="cannot be read"):
        read_objectives(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrafficError, match="not valid YAML"):
        read_objectives(tmp_path / "binary.yaml")


def test_an_empty_file_sets_only_what_always_holds(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text("# nothing\n")

    assert read_objectives(tmp_path / "slo.yaml") == Objectives.model_validate({})
