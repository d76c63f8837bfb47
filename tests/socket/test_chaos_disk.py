"""Full disks, stderr that nobody reads, models that are deleted: what serves goes on serving."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.chaos import Unheard, wrapped
from tests.socket.conftest import read_metric
from tests.socket.storm import Storm, example, expectations
from tests.support.artefacts import write_lstm
from tests.support.native import needs_library, write_native
from training.local_server import LocalServer

X = example()
CALLERS = 2
PIPE_BYTES = 4096
LOST = "lstm_log_lines_lost_total"
POLL = ("--model-control", "poll", "--poll-seconds", "0.1")
EXPLICIT = ("--model-control", "explicit", "--load-model", "lstm", "--load-model", "native")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model by onnxruntime, and one whose weights the native engine maps."""
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm")
    write_native(root, "native")
    return root


@pytest.fixture(scope="module")
def expected(models: Path) -> dict[str, dict]:
    """What each model answers that nothing has happened to."""
    with LocalServer(models) as server, triton.InferenceServerClient(server.address) as client:
        return {model: expectations(client, model, X, "1") for model in ("lstm", "native")}


@pytest.fixture
def root(models: Path, tmp_path: Path) -> Path:
    """The models, to be deleted."""
    return shutil.copytree(models, tmp_path / "repository")


@pytest.fixture
def stalled() -> Iterator[int]:
    """The end of a pipe that has room for a page, and that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield writer
    os.close(reader)
    os.close(writer)


def served(server: Unheard | LocalServer, expected: dict, count: int) -> None:
    """Call until so many answers have come, more lines of log than any pipe or page holds."""
    with Storm(server.address, "lstm", expected["lstm"], X, CALLERS) as storm:
        storm.until_more(count)
    assert (storm.failed, storm.wrong) == ({}, {})


def test_a_log_that_nobody_reads_stops_no_request(models: Path, expected: dict, stalled: int) -> None:
    with Unheard(models, "--log-requests", stderr=stalled) as server:
        served(server, expected, 200)

    assert server.process.returncode == 0


def test_a_log_whose_reader_has_gone_stops_no_request(models: Path, expected: dict) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stderr:
        os.close(reader)
        with Unheard(models, "--log-requests", stderr=stderr) as server:
            served(server, expected, 200)
            assert read_metric(server, LOST) >= 100

    assert server.process.returncode == 0


def test_a_server_without_stderr_serves(models: Path, expected: dict, tmp_path: Path) -> None:
    program = wrapped(tmp_path, "exec 2>&-")
    with Unheard(models, "--log-requests", stderr=subprocess.DEVNULL, program=program) as server:
        served(server, expected, 50)
        assert read_metric(server, LOST) == 0

    assert server.process.returncode == 0


def test_a_disk_that_fills_up_costs_lines_of_the_log_only(models: Path, expected: dict, tmp_path: Path) -> None:
    """No file may grow beyond four kilobytes, which the log does in the middle of a line; nothing else is written."""
    log = tmp_path / "log"
    program = wrapped(tmp_path, "ulimit -f 8", "trap '' XFSZ")
    with log.open("wb") as stderr, Unheard(models, "--log-requests", stderr=stderr, program=program) as server:
        served(server, expected, 200)
        assert read_metric(server, LOST) >= 100

    assert server.process.returncode == 0
    assert log.stat().st_size == 8 * 512


def test_nothing_is_written_to_any_disk(models: Path, expected: dict, tmp_path: Path) -> None:
    """From start to end, a reload included: no file may get a single byte, and no folder is there to put one in."""
    nowhere = "/proc"
    program = wrapped(
        tmp_path, "ulimit -f 0", f"export TMPDIR={nowhere} HOME={nowhere} PYTHONDONTWRITEBYTECODE=1", f"cd {nowhere}"
    )
    with LocalServer(models, *EXPLICIT, program=program) as server:
        served(server, expected, 20)
        with triton.InferenceServerClient(server.address) as admin:
            for model in ("lstm", "native"):
                admin.load_model(model)
        served(server, expected, 20)
        assert read_metric(server, LOST) == 0

    assert server.process.returncode == 0


@needs_library
@pytest.mark.parametrize("flags", [(), POLL, EXPLICIT], ids=["none", "poll", "explicit"])
def test_a_repository_that_vanishes_takes_nothing_with_it(root: Path, expected: dict, flags: tuple[str, ...]) -> None:
    with LocalServer(root, *flags) as server, ExitStack() as storms:
        both = [storms.enter_context(Storm(server.address, model, expected[model], X, CALLERS)) for model in expected]
        for storm in both:
            storm.until_more(20)
        shutil.rmtree(root)
        if flags == POLL:
            server.wait_for("cannot be listed .*what serves goes on serving")
        for storm in both:
            storm.until_more(100)
        if flags == EXPLICIT:
            with triton.InferenceServerClient(server.address) as admin:
                for model in expected:
                    with pytest.raises(InferenceServerException, match=f"no version of a model '{model}' lies in"):
                        admin.load_model(model)
        for storm in both:
            storm.until_more(20)

    assert server.process.returncode == 0
    assert [(storm.failed, storm.wrong) for storm in both] == [({}, {})] * 2


@needs_library
def test_a_folder_that_is_deleted_is_unloaded_and_serves_again_when_it_is_back(
    root: Path, models: Path, expected: dict
) -> None:
    """The poll sees it; callers are told, retryably, and callers of the other model notice nothing."""
    with (
        LocalServer(root, *POLL) as server,
        Storm(server.address, "lstm", expected["lstm"], X, CALLERS) as unharmed,
        Storm(server.address, "native", expected["native"], X, CALLERS) as storm,
    ):
        storm.until_more(20)
        shutil.rmtree(root / "native")
        server.wait_for("unloaded native version 1")
        storm.until(lambda: sum(storm.failed.values()) > 10)
        shutil.copytree(models / "native", root / ".arriving")
        (root / ".arriving").rename(root / "native")
        before = storm.answered["1"]
        storm.until(lambda: storm.answered["1"] > before + 20)
        unharmed.until_more(20)

    assert (unharmed.failed, unharmed.wrong, storm.wrong) == ({}, {}, {})
    assert {text.split()[0] for text in storm.failed} == {"StatusCode.UNAVAILABLE"}, storm.failed
