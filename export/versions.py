"""Version folders below a folder: of one version, one model, or a whole repository."""

from pathlib import Path

from export.errors import ExportError
from serving.manifest import MANIFEST_FILE


def find_versions(path: Path) -> list[Path]:
    """Return the version folders at or below `path`, by name of the model and number.

    Args:
        path: a version, a model or a repository.

    Raises:
        ExportError: there is no such folder, or no version in it.
    """
    folder = path.resolve()
    if not folder.is_dir():
        raise ExportError(f"{path}: no such folder; expected models/NAME/VERSION, models/NAME or models")
    found = [folder] if (folder / MANIFEST_FILE).exists() else []
    for depth in ("*", "*/*"):
        found += [entry.parent for entry in folder.glob(f"{depth}/{MANIFEST_FILE}") if entry.parent.name.isdecimal()]
    if not found:
        raise ExportError(f"{path}: holds no version; expected models/NAME/VERSION with a {MANIFEST_FILE} in it")
    return sorted(found, key=lambda entry: (entry.parent.name, entry.name.zfill(12)))
