"""What lies in the repository's folder: models and versions by their names, and stamps that tell of every change.

    <root>/<model>/model.yaml
    <root>/<model>/<version>/manifest.json, ...

A folder is a version once it has a manifest. Names that begin otherwise than with a letter or digit are none of ours:
that leaves out what copying tools and Kubernetes' volumes keep beside the files (`.tmp-1`, `..data`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ArtifactError
from serving.manifest import MANIFEST_FILE, is_model_name
from serving.policy import POLICY_FILE

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, bytes, time of change (ns) and inode of each file: two that are equal mean the same content, copied whole."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model as it lies on disk at one moment.

    Attributes:
        name: of the model.
        policy: stamp of `model.yaml`, empty without one.
        versions: stamp of each version's files, by number.
        unreadable: why it could not be looked into, which does not mean that nothing is there; empty if it could.
    """

    name: str
    policy: Stamp
    versions: Mapping[int, Stamp]
    unreadable: str = ""


def scan(root: Path) -> dict[str, ModelFolder]:
    """Return every folder that may be a model's, with or without versions in it.

    Raises:
        ArtifactError: `root` cannot be listed; which does not mean that it is empty.
    """
    try:
        names = sorted(entry.name for entry in root.iterdir() if is_model_name(entry.name) and entry.is_dir())
    except OSError as error:
        raise ArtifactError(
            f"{root}: cannot be listed ({error.strerror}); --model-repository takes the folder that holds the models"
        ) from error
    return {name: scan_model(root, name) for name in names}


def scan_model(root: Path, name: str) -> ModelFolder:
    """Return one model's folder as it is now; one that is not there has no versions."""
    directory = root / name
    policy = directory / POLICY_FILE
    versions: dict[int, Stamp] = {}
    try:
        for entry in _entries(directory):
            if _is_version(entry.name) and (entry / MANIFEST_FILE).is_file():
                versions[int(entry.name)] = tuple(sorted(_stamps(entry, "")))
        return ModelFolder(name, tuple(_stamp(policy, POLICY_FILE)), dict(sorted(versions.items())))
    except OSError as error:  # no permission, no free descriptor, a volume that fails
        return ModelFolder(name, (), {}, unreadable=f"{error.filename}: cannot be read ({error.strerror})")


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name == str(int(name)) and len(name) < 10


def _entries(directory: Path) -> list[Path]:
    """List a folder; one that has just gone is empty."""
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stamps(directory: Path, prefix: str) -> Iterator[tuple[str, int, int, int]]:
    for entry in _entries(directory):
        if entry.is_dir():
            yield from _stamps(entry, f"{prefix}{entry.name}/")
        else:
            yield from _stamp(entry, f"{prefix}{entry.name}")


def _stamp(path: Path, name: str) -> Iterator[tuple[str, int, int, int]]:
    """Follow links: Kubernetes swaps what they point to."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):  # gone since it was listed
        return
    yield name, found.st_size, found.st_mtime_ns, found.st_ino
