"""The finished version folder: written aside, renamed into place, never half there and never over another."""

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from export.errors import ExportError
from serving.manifest import MODEL_FILE, Manifest
from serving.plan import NATIVE_DIRECTORY

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "lstm-serving")


def write_version(
    models: Path,
    manifest: Manifest,
    content: bytes,
    describe: Callable[[Manifest], Mapping[str, bytes]],
    native: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the next free version of `manifest.name` under `models` and return its folder.

    Args:
        models: the repository; made if missing.
        manifest: its version is replaced by the one that is free.
        content: bytes of `model.onnx`.
        describe: gives what else lies beside it, by file name, from the manifest with its number.
        native: files of the folder `native`, by name.

    Raises:
        ExportError: the folder cannot be written.
    """
    model = models / manifest.name
    made = [directory for directory in (model, *model.parents) if not directory.exists()]
    aside = model / f".{uuid.uuid4().hex}"  # the server reads folders with plain numbers only
    done = False
    try:
        aside.mkdir(parents=True)
        (aside / MODEL_FILE).write_bytes(content)
        if native:
            (aside / NATIVE_DIRECTORY).mkdir()
            for name, data in native.items():
                (aside / NATIVE_DIRECTORY / name).write_bytes(data)
        target = _rename(aside, model, manifest, describe)
        done = True
    except OSError as error:
        raise ExportError(f"{model}: cannot be written ({error.strerror or error})") from error
    finally:
        if not done:
            shutil.rmtree(aside, ignore_errors=True)
            for directory in made:
                if directory.exists() and not any(directory.iterdir()):
                    directory.rmdir()
    return target


def next_version(model: Path) -> int:
    """Return the number after the highest version in a model's folder; 1 if there is none."""
    if not model.is_dir():
        return 1
    return 1 + max((int(entry.name) for entry in model.iterdir() if entry.name.isdecimal()), default=0)


def tool_versions() -> dict[str, str]:
    """Return the versions of what makes an artefact, of those that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def _rename(aside: Path, model: Path, manifest: Manifest, describe: Callable[[Manifest], Mapping[str, bytes]]) -> Path:
    """Give the folder its number; another export may take the same one in between, then the next is tried."""
    while True:
        number = next_version(model)
        numbered = Manifest.model_validate(manifest.model_dump() | {"version": number})
        numbered.write(aside)
        for name, data in describe(numbered).items():
            (aside / name).write_bytes(data)
        target = model / str(number)
        try:
            os.rename(aside, target)  # noqa: PTH104  Path.rename is the same call; the intent is the atomic one
        except OSError:
            if target.exists():
                continue
            raise
        return target
