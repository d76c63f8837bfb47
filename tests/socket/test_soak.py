"""A short soak: what becomes of every request is known, and a server that answers wrongly is found out."""

import json
import subprocess
import sys

import pytest

from loadtests.soak.driving import ALLOWED, Tally
from loadtests.soak.watching import Sample, slope_per_hour
from tests.support.artefacts import write_lstm
from tests.support.native import needs_library, write_native

MINUTES = "0.2"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a soak of a dozen seconds found, in a process of its own."""
    folder = tmp_path_factory.mktemp("soak")
    write_lstm(folder / "models", "bidirectional", hidden=32)
    write_lstm(folder / "models", "stepwise", bidirectional=False, stepwise=True)
    write_native(folder / "models", "int8")
    flags = ["--minutes", MINUTES, "--reload-seconds", "1", "--output", folder / "out"]
    command = [sys.executable, "-m", "loadtests.soak", "--model-repository", folder / "models", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (folder / "out" / "soak.png").stat().st_size > 0
    return json.loads((folder / "out" / "soak.json").read_text())


@needs_library
def test_nothing_is_lost_or_wrong_amid_reloads(report: dict) -> None:
    """And each kind of request was sent, or nothing would have been shown."""
    seen = {tuple(name.split(": ")) for name in report["outcomes"]}

    assert {kind for kind, _ in seen} == set(ALLOWED)
    assert all(outcome in ALLOWED[kind] for kind, outcome in seen)
    assert {("ordinary", "right"), ("malformed", "INVALID_ARGUMENT"), ("cancelled", "CANCELLED")} <= seen
    assert report["reloads"]["seconds"]
    assert not report["reloads"]["failures"]


@needs_library
def test_every_second_has_its_sample(report: dict) -> None:
    seconds = [sample["seconds"] for sample in report["samples"]]

    assert seconds == sorted(seconds)
    assert all(sample["rss_mib"] >= sample["anonymous_mib"] > 0 for sample in report["samples"])


def test_what_must_not_happen_is_counted_as_wrong() -> None:
    tally = Tally()
    tally.sent.update(ordinary=4, malformed=1)
    tally.ended.update({("ordinary", "right"): 1, ("ordinary", "wrong"): 1, ("ordinary", "UNAVAILABLE"): 1})
    tally.ended.update({("malformed", "right"): 1})

    assert (tally.wrong, tally.lost) == (3, 1)


def test_a_slope_is_that_of_the_second_half() -> None:
    grown = [sample(second, rss=100 if second < 50 else 100 + (second - 50) / 36) for second in range(100)]

    assert slope_per_hour(grown, "rss_mib") == pytest.approx(100)
    assert slope_per_hour([sample(second, rss=100) for second in range(100)], "rss_mib") == pytest.approx(0, abs=1e-9)


def sample(second: float, *, rss: float) -> Sample:
    return Sample(
        seconds=second,
        rss_mib=rss,
        anonymous_mib=1,
        threads=1,
        descriptors=1,
        answered_per_second=1,
        p50=float("nan"),
        p99=float("nan"),
    )
