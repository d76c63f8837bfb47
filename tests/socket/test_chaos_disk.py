"""Full disks, stderr that nobody reads, models that are deleted: what serves goes on serving."""

import fcntl
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.chaos import UNPRIVILEGED, Unheard, status_bytes, wrapped
from tests.socket.conftest import read_metric
from tests.socket.storm import Storm, example, expectations
from tests.support.artefacts import write_lstm
from tests.support.native import needs_library, write_native
from training.local_server import LocalServer

X = example()
CALLERS = 2
PIPE_BYTES = 4096
MIB = 2**20
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


@needs_library
@pytest.mark.parametrize("hidden", ["native", "native/1", "native/1/native"])
def test_a_folder_that_cannot_be_read_says_nothing_about_what_is_in_it(
    root: Path, expected: dict, tmp_path: Path, hidden: str
) -> None:
    """What serves goes on serving, and other models come; it is said once."""
    folder = root / hidden
    with (
        LocalServer(root, *POLL, program=wrapped(tmp_path, by=UNPRIVILEGED)) as server,
        Storm(server.address, "native", expected["native"], X, CALLERS) as storm,
    ):
        storm.until_more(20)
        folder.chmod(0)
        try:
            server.wait_for(rf"{hidden}.*: cannot be read \(Permission denied\); what serves goes on serving")
            write_lstm(root, "newcomer")
            server.wait_for("loaded newcomer version 1")
        finally:
            folder.chmod(0o755)
        storm.until_more(20)

    assert server.process.returncode == 0
    assert (storm.failed, storm.wrong) == ({}, {})
    assert sum("what serves goes on serving" in line for line in server.log) == 1
    assert not any("loaded native" in line for line in server.log[server.log.index(ready_line(server)) :])


def ready_line(server: LocalServer) -> str:
    return next(line for line in server.log if "ready: gRPC" in line)


def test_a_version_that_came_unreadable_serves_once_it_can_be_read(root: Path, models: Path, tmp_path: Path) -> None:
    """Though none of its files has changed since it was refused, which is said and counted once."""
    arriving = shutil.copytree(models / "lstm", root / ".arriving" / "lstm") / "1" / "model.onnx"
    shutil.rmtree(root / "lstm")
    with LocalServer(root, *POLL, program=wrapped(tmp_path, by=UNPRIVILEGED)) as server:
        arriving.chmod(0)
        (root / ".arriving" / "lstm").rename(root / "lstm")
        server.wait_for(r"refused lstm version 1: .*model\.onnx: cannot be read \(Permission denied\)")
        write_lstm(root, "meanwhile")
        server.wait_for("loaded meanwhile version 1")  # takes two looks
        (root / "lstm" / "1" / "model.onnx").chmod(0o644)
        server.wait_for("loaded lstm version 1")
        assert read_metric(server, "lstm_model_loads_total", model="lstm", outcome="refused") == 1

    assert server.process.returncode == 0


def test_an_administrator_is_told_what_cannot_be_read(root: Path, expected: dict, tmp_path: Path) -> None:
    with (
        LocalServer(root, *EXPLICIT, program=wrapped(tmp_path, by=UNPRIVILEGED)) as server,
        triton.InferenceServerClient(server.address) as admin,
    ):
        (root / "lstm").chmod(0)
        try:
            with pytest.raises(
                InferenceServerException, match=r"cannot be read \(Permission denied\); versions \[1\] serve"
            ):
                admin.load_model("lstm")
        finally:
            (root / "lstm").chmod(0o755)
        assert expectations(admin, "lstm", X, "1")["1"] == pytest.approx(expected["lstm"]["1"], rel=1e-5, abs=1e-6)
        admin.load_model("lstm")

    assert server.process.returncode == 0


def test_a_version_for_which_there_is_no_memory_is_refused_and_the_others_serve_on(root: Path, expected: dict) -> None:
    """Of address space, which runs out long before the version is read; it is loaded when there is more."""
    large = write_lstm(root, "large", hidden=1500) / "model.onnx"
    room = large.stat().st_size * 2 // 3
    (root / "large" / "model.yaml").write_text("max_steps: 2\nmax_batch_rows: 1\n")  # warms up soon
    with LocalServer(root, *EXPLICIT) as server, triton.InferenceServerClient(server.address) as admin:
        admin.load_model("lstm")  # what a load needs besides is there
        process = server.process.pid
        before = resource.prlimit(process, resource.RLIMIT_AS)
        resource.prlimit(process, resource.RLIMIT_AS, (status_bytes(process, "VmSize") + room, before[1]))
        with pytest.raises(InferenceServerException, match=r"'large'.*Cannot allocate memory.*no version serves"):
            admin.load_model("large")
        assert expectations(admin, "lstm", X, "1")["1"] == pytest.approx(expected["lstm"]["1"], rel=1e-5, abs=1e-6)
        resource.prlimit(process, resource.RLIMIT_AS, before)
        admin.load_model("large")
        assert admin.is_model_ready("large")

    assert server.process.returncode == 0
