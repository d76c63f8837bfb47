"""Version folders: the next number, nothing half-written, nothing overwritten."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from export.artefact import write_version
from export.errors import ExportError
from serving.errors import ArtifactError
from serving.manifest import Manifest, ModelFile, Tensor, read_manifest

CONTENT = b"\x08\x0a"  # ir_version: 10


def _manifest() -> Manifest:
    x = Tensor(name="x", datatype="FP32", shape=("batch", "time", 3))
    return Manifest(
        name="m",
        version=1,
        precision="fp32",
        inputs=(x,),
        lengths_input="lengths",
        outputs=(x.model_copy(update={"name": "y"}),),
        stepwise=False,
        file=ModelFile(sha256=hashlib.sha256(CONTENT).hexdigest(), bytes=len(CONTENT)),
        proofs=(),
        tools={},
        created="2026-01-01T00:00:00+00:00",
    )


def _report(manifest: Manifest) -> Mapping[str, bytes]:
    return {"report.md": f"version {manifest.version}".encode()}


def test_versions_count_up_from_the_highest(tmp_path: Path) -> None:
    (tmp_path / "m" / "6").mkdir(parents=True)
    (tmp_path / "m" / "notes").mkdir()

    written = write_version(tmp_path, _manifest(), CONTENT, _report)

    assert written == tmp_path / "m" / "7"
    assert read_manifest(written).version == 7
    assert (written / "report.md").read_text() == "version 7"


def test_a_changed_model_file_is_noticed(tmp_path: Path) -> None:
    written = write_version(tmp_path, _manifest(), CONTENT, _report)
    (written / "model.onnx").write_bytes(CONTENT + b"!")

    with pytest.raises(ArtifactError, match="changed or damaged"):
        read_manifest(written)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    first = write_version(tmp_path / "models", _manifest(), CONTENT, _report)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}

    def fail(_: Manifest) -> Mapping[str, bytes]:
        raise failure

    with pytest.raises((KeyboardInterrupt, ExportError)):
        write_version(tmp_path / "models", _manifest(), CONTENT, fail)
    with pytest.raises((KeyboardInterrupt, ExportError)):
        write_version(tmp_path / "new" / "models", _manifest(), CONTENT, fail)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert [path.name for path in first.parent.iterdir()] == ["1"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_repository_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(ExportError, match=r"models/m: cannot be written \(Not a directory\)"):
        write_version(tmp_path / "models", _manifest(), CONTENT, _report)
