"""Models come, change and go under load: no request fails for it, and no answer is another version's."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import tensor
from tests.socket.storm import Storm, example, expectations
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

X = example()
CALLERS = 4
EXPLICIT = ("--model-control", "explicit", "--load-model", "lstm")
POLL = ("--model-control", "poll", "--poll-seconds", "0.1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Versions 1 and 2 of `lstm`, and 3 in a folder beside the repository."""
    write_lstm(tmp_path / "models", "lstm", 1)
    write_lstm(tmp_path / "models", "lstm", 2, seed=2)
    write_lstm(tmp_path / "elsewhere", "lstm", 3, seed=3)
    return tmp_path / "models"


@pytest.fixture
def expected(root: Path, tmp_path: Path) -> Iterator[dict]:
    """What each version answers to the example."""
    everything = tmp_path / "everything"
    shutil.copytree(root, everything)
    shutil.copytree(root.with_name("elsewhere"), everything, dirs_exist_ok=True)
    with LocalServer(everything) as server, triton.InferenceServerClient(server.address) as client:
        yield expectations(client, "lstm", X, "1", "2", "3")


def arrive(root: Path) -> Path:
    """Let version 3 appear in the repository as a whole."""
    target = root / "lstm" / "3"
    shutil.copytree(root.with_name("elsewhere") / "lstm" / "3", root / ".arriving")
    return (root / ".arriving").rename(target)


def test_reloads_under_load_fail_no_request(root: Path, expected: dict) -> None:
    with (
        LocalServer(root, *EXPLICIT) as server,
        triton.InferenceServerClient(server.address) as admin,
        Storm(server.address, "lstm", expected, X, CALLERS) as storm,
    ):
        for _ in range(10):
            storm.until_more(10)
            admin.load_model("lstm")
        storm.until_more(10)

    assert (storm.failed, storm.wrong) == ({}, {})
    assert storm.answered.keys() == {"2"}


def test_a_new_version_takes_over_under_load(root: Path, expected: dict) -> None:
    with LocalServer(root, *POLL) as server, Storm(server.address, "lstm", expected, X, CALLERS) as storm:
        storm.until(lambda: storm.answered["2"] > 10)
        arrive(root)
        storm.until(lambda: storm.answered["3"] > 10)

    assert (storm.failed, storm.wrong) == ({}, {})


def test_a_bad_version_never_takes_over(root: Path, expected: dict) -> None:
    with LocalServer(root, *POLL) as server, Storm(server.address, "lstm", expected, X, CALLERS) as storm:
        storm.until(lambda: storm.answered["2"] > 10)
        model = root.with_name("elsewhere") / "lstm" / "3" / "model.onnx"
        whole = model.read_bytes()
        model.write_bytes(whole[:-1])
        bad = arrive(root)
        server.wait_for(r"refused lstm version 3: .*sha256")
        storm.until_more(20)
        assert storm.answered.keys() == {"2"}

        (bad / "model.onnx").write_bytes(whole)
        storm.until(lambda: storm.answered["3"] > 10)

    assert (storm.failed, storm.wrong) == ({}, {})


def test_the_policy_changes_under_load(root: Path, expected: dict) -> None:
    """Version 1 leaves, limits change, a mistake changes nothing; callers of version 2 notice none of it."""
    policy = root / "lstm" / "model.yaml"
    with (
        LocalServer(root, *POLL) as server,
        triton.InferenceServerClient(server.address) as client,
        Storm(server.address, "lstm", expected, X, CALLERS) as storm,
    ):
        policy.write_text("versions: {latest: 1}\nmax_request_rows: 2\ninstances: 2\n")
        server.wait_for(r"unloaded lstm version 1")
        with pytest.raises(InferenceServerException, match=r"version 1 is none of the versions that model\.yaml"):
            client.infer("lstm", [tensor("x", X)], model_version="1")
        with pytest.raises(InferenceServerException, match="at most 2"):
            client.infer("lstm", [tensor("x", X[[0, 0, 0]])])

        policy.write_text("max_rows: 1\n")
        server.wait_for(r"refused lstm version 2: .*max_rows")
        storm.until_more(20)
        with pytest.raises(InferenceServerException, match="at most 2"):
            client.infer("lstm", [tensor("x", X[[0, 0, 0]])])

    assert (storm.failed, storm.wrong) == ({}, {})
    assert storm.answered.keys() == {"2"}


def test_an_unloaded_model_is_unavailable_and_not_lost(root: Path, expected: dict) -> None:
    """What was accepted is answered; what comes later is told why, until the model is back."""
    with (
        LocalServer(root, *EXPLICIT) as server,
        triton.InferenceServerClient(server.address) as admin,
        Storm(server.address, "lstm", expected, X, CALLERS) as storm,
    ):
        storm.until_more(20)
        admin.unload_model("lstm")
        storm.until(lambda: sum(storm.failed.values()) > 10)
        assert not admin.is_model_ready("lstm")
        before = sum(storm.answered.values())
        admin.load_model("lstm")
        storm.until(lambda: sum(storm.answered.values()) > before + 10)

    assert {text.split()[0] for text in storm.failed} == {"StatusCode.UNAVAILABLE"}
    assert all("was unloaded" in text or "is being loaded" in text for text in storm.failed), storm.failed
    assert not storm.wrong


def test_the_memory_of_old_versions_is_returned(tmp_path: Path) -> None:
    """Twenty reloads of a model of 17 MB: they may not keep what three models take."""
    version = write_lstm(tmp_path, "lstm", hidden=1024, bidirectional=False)
    size = (version / "model.onnx").stat().st_size
    assert size > 10e6
    with LocalServer(tmp_path, *EXPLICIT) as server, triton.InferenceServerClient(server.address) as admin:

        def resident() -> int:
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

        for _ in range(5):
            admin.load_model("lstm")
        before = resident()
        for _ in range(20):
            admin.load_model("lstm")
        loaded = resident()
        admin.unload_model("lstm")
        unloaded = resident()

    assert loaded - before < 3 * size
    assert loaded - unloaded > size / 2
