"""The finder from end to end: what it says is what it measured, and what cannot be is told."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.capacity.measuring import Bench, Effort
from loadtests.generator.program import RECORD
from loadtests.traffic.slo import Objectives
from tests.support.artefacts import write_lstm

ROOT = Path(__file__).parents[3]


def find(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.capacity", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


@pytest.mark.usefixtures("program")
def test_a_number_is_told_with_what_it_was_measured_by_or_refused_with_the_reason(tmp_path: Path) -> None:
    write_lstm(tmp_path / "models", "lstm", hidden=64)
    (tmp_path / "slo.yaml").write_text("p99_seconds: 0.5\nerror_share: 0.01\nshed_share: 0.01\n")
    quick = ("--seconds", "0.5", "--warm-up", "0.2", "--repeats", "1", "--precision", "0.5", "--lengths", "fixed:100")
    files = ("--model-repository", str(tmp_path / "models"), "--slo", str(tmp_path / "slo.yaml"))

    ended = find(*files, *quick, "--output", str(tmp_path / "out"))

    assert (tmp_path / "out" / "capacity.png").read_bytes().startswith(b"\x89PNG"), ended.stderr
    record = json.loads((tmp_path / "out" / "capacity.json").read_text())
    found = record["models"]["lstm"]
    good = [point["rate"] for point in found["points"] if point["kept"] and not point["limited"]]
    bad = [point["rate"] for point in found["points"] if not point["kept"] or point["limited"]]
    if found["refused"]:
        assert ended.returncode == 1
        assert found["requests_per_second"] is None
        assert found["refused"][:20] in " ".join(ended.stdout.split())
    else:
        assert ended.returncode == 0, ended.stdout
        assert found["requests_per_second"] in good
        assert min(bad) <= found["requests_per_second"] * 1.5 + 1e-9
        assert found["requests_per_second_per_core"] == found["requests_per_second"] / record["cores"]


def test_a_lag_that_is_a_tenth_of_what_the_p99_may_be_is_the_generators_limit(tmp_path: Path) -> None:
    for p99, most in ((None, 0.001), (0.002, 0.001), (0.2, 0.02)):
        assert bench(tmp_path, Objectives(p99_seconds=p99)).most_lag == pytest.approx(most)


@pytest.mark.parametrize(
    ("lag", "status", "kept", "limited"), [(0.0, 0, True, False), (0.1, 0, True, True), (0.0, 8, False, False)]
)
def test_a_point_is_what_its_runs_were(tmp_path: Path, lag: float, status: int, kept: bool, limited: bool) -> None:
    """A stand-in for the generator writes what it was to send as sent so late, and ended so."""
    made = bench(tmp_path, Objectives(p99_seconds=0.2, shed_share=0.5))
    program = tmp_path / "generator.py"
    program.write_text(
        "import sys, numpy as np\n"
        "flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "meant = np.fromfile(flags['--arrivals'])\n"
        f"records = np.zeros(len(meant), {RECORD.descr})\n"
        f"records['meant'], records['sent'], records['ended'] = meant, meant + {lag}, meant + {lag} + 0.01\n"
        f"records['status'] = {status}\n"
        "records['status'][meant < 1.0] = 14\n"
        "records.tofile(flags['--result'])\n"
    )
    made.generator.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')  # a #! line takes no space
    made.generator.chmod(0o755)

    point = made.point(200.0)

    assert (point.kept, point.limited) == (kept, limited)
    assert point.lag_p99 == pytest.approx(lag, abs=1e-9)
    if status == 0:
        assert point.p99 == pytest.approx(lag + 0.01)
        assert point.missed == "", "what failed in the warm-up does not count"
    else:
        assert np.isnan(point.p99)
        assert point.missed.startswith("p99")


def bench(folder: Path, objectives: Objectives) -> Bench:
    effort = Effort(seconds=2.0, warm_up=1.0, repeats=3, seed=0)
    return Bench(
        port=1,
        generator=folder / "generator",
        core=None,
        folder=folder,
        objectives=objectives,
        deadline=1.0,
        effort=effort,
    )


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--host", "127.0.0.1:1"), "nothing listens on 127.0.0.1:1"),
        (("--host", "10.0.0.1:8001"), "reaches this machine only"),
        (("--model-repository", "none"), "none: no such folder"),
        (("--slo", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
@pytest.mark.usefixtures("program")
def test_what_cannot_be_is_told(tmp_path: Path, flags: tuple[str, ...], why: str) -> None:
    ended = find(*flags, "--output", str(tmp_path))

    assert ended.returncode == 1
    assert why in ended.stderr
