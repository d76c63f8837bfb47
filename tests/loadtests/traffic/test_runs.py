"""Runs from end to end: everything that was to be sent ended, once, and answers are compared."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtests.traffic.expected import read_answers
from tests.loadtests.traffic.loading import Ended, metrics, run
from training.local_server import LocalServer

QUICK = ("--models", "whole,stepwise", "--seconds", "3", "--deadline", "20", "--check", "64")
BOTH = (*QUICK, "--shape", "ramp:20,80", "--stream-share", "0.5", "--piece-steps", "3")
PLAIN = ("-m", "locust", "-f", "loadtests/locustfile.py", "--headless")


@pytest.fixture(scope="module")
def alone(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """An open loop from one process, over both calls of the protocol."""
    return run(server.address, tmp_path_factory.mktemp("alone"), *BOTH, *metrics(server))


def test_every_arrival_of_an_open_loop_is_sent_and_answered_rightly(alone: Ended) -> None:
    assert alone.code == 0, alone.printed
    assert alone.figures["due"] == alone.figures["ended"] == alone.figures["answered"] == len(alone.requests)
    assert alone.figures["wrong"] == 0
    assert alone.figures["right"] == checked(alone) > 0
    assert 70 < len(alone.requests) < 230, "150 are expected, and their standard deviation is 12"
    assert {(row["model"], row["call"]) for row in alone.requests} == {
        ("whole", "unary"),
        ("stepwise", "unary"),
        ("stepwise", "stream"),
    }
    assert all(float(row["ended"]) >= float(row["sent"]) >= float(row["due"]) for row in alone.requests)


def test_the_report_has_all_that_a_person_looks_for(alone: Ended) -> None:
    page = (alone.folder / "load.html").read_text()

    assert "All objectives are kept" in page
    assert 'src="data:image/png;base64,' in page
    assert (alone.folder / "load.png").read_bytes().startswith(b"\x89PNG")
    assert alone.record["warnings"] == [] or "load generator was late" in alone.record["warnings"][0]
    assert "p99, seconds" not in alone.printed, "no objectives were given but those that always hold"
    assert "wrong answers" in alone.printed


def test_several_processes_send_the_same_plan(server: LocalServer, alone: Ended, tmp_path: Path) -> None:
    shared = run(server.address, tmp_path, *BOTH, "--processes", "3", *metrics(server), locust=PLAIN)

    assert shared.code == 0, shared.printed
    assert shared.record["processes"] == 3
    assert shared.planned() == alone.planned()
    assert shared.figures["right"] == alone.figures["right"]


def test_a_run_can_be_sent_again_as_a_trace(server: LocalServer, alone: Ended, tmp_path: Path) -> None:
    again = run(
        server.address, tmp_path, "--trace", str(alone.folder / "arrivals.csv"), "--deadline", "20", *metrics(server)
    )

    assert again.code == 0, again.printed
    assert (again.folder / "arrivals.csv").read_text() == (alone.folder / "arrivals.csv").read_text()
    assert again.figures["right"] == len(alone.requests), "each length has one request, and all of them are compared"


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two workers"])
def test_callers_of_a_closed_loop_are_all_answered(
    server: LocalServer, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    flags = (*QUICK, "--loop", "closed", "--shape", "steps:2,4", "--stream-share", "0.5")
    ended = run(server.address, tmp_path, *flags, *processes, *metrics(server))

    assert ended.code == 0, ended.printed
    assert ended.figures["due"] == ended.figures["ended"] == ended.figures["answered"] == len(ended.requests)
    assert ended.figures["right"] == checked(ended) > 0
    assert {row["call"] for row in ended.requests} == {"unary", "stream"}
    assert "coordinated omission" in ended.record["warnings"][0]


def test_an_answer_that_is_not_the_expected_one_is_found(server: LocalServer, tmp_path: Path) -> None:
    """One expected answer is changed by a thousandth; those that get it, and no others, are wrong."""
    answers = tmp_path / "expected.npz"
    flags = (*QUICK, "--shape", "steady:60", "--lengths", "uniform:2,9", "--expected", str(answers), *metrics(server))
    first = run(server.address, tmp_path / "first", *flags)
    changed = change_some(answers)
    second = run(server.address, tmp_path / "second", *flags)

    other = run(server.address, tmp_path / "other", *QUICK, "--lengths", "fixed:30", "--expected", str(answers))

    assert first.code == 0, first.printed
    assert first.figures["wrong"] == 0
    assert second.code == 1, second.printed
    assert second.planned() == first.planned()
    assert 0 < second.figures["wrong"] < second.figures["answered"]
    assert Counter(row["answer"] for row in second.requests)["wrong"] == second.figures["wrong"]
    assert changed
    assert "Not all objectives are kept" in (second.folder / "load.html").read_text()
    assert other.code == 1
    assert "holds no answer to a request of 30 steps" in other.printed


def test_what_is_refused_for_load_is_shed_and_sent_again_only_if_wanted(server: LocalServer, tmp_path: Path) -> None:
    flags = ("--models", "slow", "--lengths", "fixed:1500", "--seconds", "2", "--deadline", "5", "--check", "2")
    once = run(server.address, tmp_path / "once", *flags, "--shape", "steady:60", *metrics(server))
    again = run(server.address, tmp_path / "again", *flags, "--shape", "steady:60", "--retries", "2", *metrics(server))

    for ended in (once, again):
        assert ended.figures["due"] == ended.figures["ended"]
        assert ended.figures["shed"] > 0
        assert any(outcome.startswith("RESOURCE_EXHAUSTED ") for outcome in ended.record["outcomes"]), "with a reason"
    assert once.planned() == again.planned(), "what is due does not depend on the answers"
    assert once.code == 0, "without objectives, shedding is allowed"
    assert {row["attempts"] for row in once.requests} == {"1"}
    assert {row["attempts"] for row in again.requests} >= {"1", "3"}


def test_what_cannot_be_sent_because_too_much_is_out_is_told(server: LocalServer, tmp_path: Path) -> None:
    flags = ("--models", "slow", "--lengths", "fixed:1500", "--seconds", "2", "--deadline", "5", "--check", "2")
    ended = run(server.address, tmp_path, *flags, "--shape", "steady:100", "--outstanding", "1", *metrics(server))

    unsent = ended.record["outcomes"]["not sent outstanding"]
    assert ended.code == 1
    assert ended.figures["due"] == ended.figures["ended"]
    assert ended.figures["errors"] >= unsent > 0
    assert f"{unsent} requests were never sent" in " ".join(ended.record["warnings"])


def checked(ended: Ended) -> int:
    return sum(row["answer"] == "right" for row in ended.requests)


def change_some(path: Path) -> int:
    """Change the answers in a file that lie at every tenth place by a thousandth, and return how many."""
    answers = read_answers(path)
    chosen = sorted(answers)[::10]
    for key in chosen:
        first = answers[key].raw_output_contents[0]
        answers[key].raw_output_contents[0] = (np.frombuffer(first, "<f4") + np.float32(1e-3)).tobytes()
    with path.open("wb") as file:
        contents = {key: np.frombuffer(answer.SerializeToString(), np.uint8) for key, answer in answers.items()}
        np.savez_compressed(file, allow_pickle=False, **contents)
    return len(chosen)
