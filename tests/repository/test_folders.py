"""What counts as a version, and what counts as a change."""

import os
from pathlib import Path

import pytest

from serving.errors import ArtifactError
from serving.repository.folders import scan, scan_model


def version(root: Path, name: str, number: str) -> Path:
    directory = root / name / number
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    (directory / "model.onnx").write_text("weights")
    return directory


def test_only_folders_with_a_manifest_are_versions(tmp_path: Path) -> None:
    for number in ("1", "10", "007", "-1", "1.5", "\u0663", "notes", "1234567890"):
        version(tmp_path, "a", number)
    (tmp_path / "a" / "2").mkdir()
    (tmp_path / "a" / "3").write_text("a file")

    assert list(scan(tmp_path)["a"].versions) == [1, 10]


@pytest.mark.parametrize("name", [".tmp-a", "..data", "a file", "lost+found"])
def test_names_that_no_model_can_have_are_passed_over(tmp_path: Path, name: str) -> None:
    version(tmp_path, name, "1")
    (tmp_path / "a").write_text("no folder")

    assert scan(tmp_path) == {}


@pytest.mark.parametrize("change", ["rewrite", "touch", "replace", "remove", "add", "deep", "policy"])
def test_every_change_shows(tmp_path: Path, change: str) -> None:
    directory = version(tmp_path, "a", "1")
    (directory / "native").mkdir()
    before = scan_model(tmp_path, "a")
    assert before == scan_model(tmp_path, "a")
    model = directory / "model.onnx"

    match change:
        case "rewrite":
            model.write_text("more weights")
        case "touch":
            os.utime(model, ns=(0, 1))
        case "replace":
            found = model.stat()
            (tmp_path / "new").write_text("Weights")
            os.utime(tmp_path / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
            (tmp_path / "new").rename(model)
        case "remove":
            model.unlink()
        case "add":
            (directory / "report.md").write_text("")
        case "deep":
            (directory / "native" / "weights.bin").write_text("")
        case "policy":
            (tmp_path / "a" / "model.yaml").write_text("")

    assert scan_model(tmp_path, "a") != before


def test_a_link_that_is_turned_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted volume."""
    version(tmp_path / "old", "a", "1")
    version(tmp_path / "new", "a", "1")
    root = tmp_path / "root"
    root.symlink_to("old")
    before = scan(root)

    root.unlink()
    root.symlink_to("new")

    assert scan(root)["a"] != before["a"]


def test_a_root_that_cannot_be_listed_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="--model-repository"):
        scan(tmp_path / "missing")


def test_a_model_that_is_not_there_has_no_versions(tmp_path: Path) -> None:
    assert not scan_model(tmp_path, "a").versions
