"""Which versions serve: the newest unless named, and a bad folder never takes a good one down."""

from pathlib import Path

import pytest

from serving.batching import Batcher, CostModel, WholeSequence
from serving.clock import SystemClock
from serving.engine.onnx import OnnxEngine
from serving.engine.turns import Turns
from serving.errors import ArtifactError, ModelNotFound, NotReady
from serving.manifest import Manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.repository import Repository, load_repository
from serving.runner import Runner
from tests.support.artefacts import write_lstm


def load(manifest: Manifest, policy: Policy, directory: Path) -> Runner:
    """Make a runner that was never started."""
    cost = CostModel()
    return Runner(
        manifest=manifest,
        policy=policy,
        engine=OnnxEngine(manifest, directory / "model.onnx", device="cpu", threads=1),
        batcher=Batcher(WholeSequence(cost), cost, max_queue_rows=policy.max_queue_rows),
        turns=Turns(1),
        clock=SystemClock(),
        metrics=ServerMetrics(cpu_threads=1).of_model(manifest.name, str(manifest.version)),
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Three good versions of `a` (1, 2, 10), a tampered version 11 of it, and a tampered `b`."""
    for version in (1, 2, 10, 11):
        write_lstm(tmp_path, "a", version)
    for broken in (tmp_path / "a" / "11", write_lstm(tmp_path, "b")):
        with (broken / "model.onnx").open("ab") as file:
            file.write(b"!")
    (tmp_path / "README.txt").write_text("no model")
    (tmp_path / "a" / "notes").mkdir()
    return load_repository(tmp_path, load)


def test_the_newest_version_that_serves_is_the_default(repository: Repository) -> None:
    """Numbers are compared as numbers, and a refused version does not count."""
    assert repository.find("a", "").manifest.version == 10
    assert repository.versions("a") == [1, 2, 10]


def test_a_version_can_be_named(repository: Repository) -> None:
    assert repository.find("a", "2").manifest.version == 2


@pytest.mark.parametrize(("name", "version"), [("a", "11"), ("b", "1"), ("b", "")])
def test_a_refused_version_says_why(repository: Repository, name: str, version: str) -> None:
    with pytest.raises(NotReady, match=r"was refused at load: .*sha256"):
        repository.find(name, version)


@pytest.mark.parametrize("version", ["3", "latest", "-1", "9" * 5000])
def test_an_unknown_version_lists_those_there_are(repository: Repository, version: str) -> None:
    with pytest.raises(ModelNotFound, match=r"it has \[1, 2, 10, 11\]"):
        repository.find("a", version)


@pytest.mark.parametrize("name", ["c", "", "../a"])
def test_an_unknown_model_lists_those_there_are(repository: Repository, name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"this server has \['a', 'b'\]"):
        repository.find(name, "")


def test_a_wrong_model_yaml_refuses_its_model_only(tmp_path: Path) -> None:
    write_lstm(tmp_path, "a")
    write_lstm(tmp_path, "b")
    (tmp_path / "a" / "model.yaml").write_text("max_rows: 1\n")

    found = load_repository(tmp_path, load)

    assert found.find("b", "").manifest.name == "b"
    with pytest.raises(NotReady, match="max_rows"):
        found.find("a", "")


def test_a_repository_with_nothing_to_serve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        load_repository(tmp_path / "missing", load)
    with pytest.raises(ArtifactError, match="no model version found"):
        load_repository(tmp_path, load)
    (write_lstm(tmp_path) / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match="all 1 model versions were refused"):
        load_repository(tmp_path, load)
