"""The model repository: which versions lie on disk, which of them serve, and which one a request means."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ArtifactError, ModelNotFound, NotReady
from serving.inbox import Inbox
from serving.manifest import Manifest, is_model_name, read_manifest
from serving.policy import Policy, read_policy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model version that serves."""

    manifest: Manifest
    policy: Policy
    inbox: Inbox


Loader = Callable[[Manifest, Policy, Path], Inbox]
"""Makes a verified version's folder ready to take requests; raises ArtifactError."""


class Repository:
    """The versions found at start. A folder that cannot be trusted is refused with its reason; the others serve."""

    def __init__(self, models: Mapping[tuple[str, int], Model], refused: Mapping[tuple[str, int], str]) -> None:
        self.models = dict(sorted(models.items()))
        self.refused = dict(sorted(refused.items()))

    def find(self, name: str, version: str) -> Model:
        """Return the model that a request means: the version it names, or the newest that serves if it names none.

        Raises:
            ModelNotFound: no such name or version.
            NotReady: it is on disk, but was refused at load.
        """
        serving = {number: model for (other, number), model in self.models.items() if other == name}
        refused = {number: why for (other, number), why in self.refused.items() if other == name}
        if not serving and not refused:
            known = sorted({known for known, _ in (*self.models, *self.refused)})
            raise ModelNotFound(f"no model '{name}'; this server has {known}")
        if version:
            number = int(version) if version.isdecimal() and len(version) < 10 else -1
            if number not in serving and number not in refused:
                raise ModelNotFound(f"model '{name}' has no version '{version}'; it has {sorted({*serving, *refused})}")
        else:
            number = max(serving or refused)
        if number in refused:
            raise NotReady(f"model '{name}' version {number} was refused at load: {refused[number]}")
        return serving[number]

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model that serve, oldest first."""
        return [number for other, number in self.models if other == name]


def load_repository(root: Path, load: Loader) -> Repository:
    """Load every version under `root` (`<name>/<version>/`), in order of name and number.

    Raises:
        ArtifactError: `root` is no folder, holds no version, or none of its versions could be loaded.
    """
    models: dict[tuple[str, int], Model] = {}
    refused: dict[tuple[str, int], str] = {}
    for directory in _version_directories(root):
        key = (directory.parent.name, int(directory.name))
        try:
            manifest = read_manifest(directory)
            policy = read_policy(directory.parent)
            models[key] = Model(manifest=manifest, policy=policy, inbox=load(manifest, policy, directory))
        except ArtifactError as error:
            refused[key] = str(error)
            log.error(  # noqa: TRY400  the message is the whole story
                "refused %s version %d: %s",
                *key, error, extra={"event": "model_refused", "model": key[0], "version": str(key[1])},
            )  # fmt: skip
    if not models and not refused:
        raise ArtifactError(
            f"{root}: no model version found; expected <name>/<version>/manifest.json in it, as lstm-export writes"
        )
    if not models:
        raise ArtifactError(f"{root}: all {len(refused)} model versions were refused; the reasons are in the log")
    return Repository(models, refused)


def _version_directories(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        raise ArtifactError(f"{root}: no such folder; --model-repository takes the folder that holds the models")
    for model in sorted(root.iterdir()):
        if not model.is_dir() or not is_model_name(model.name):
            continue
        versions = (entry for entry in model.iterdir() if entry.is_dir() and entry.name.isdecimal())
        yield from sorted(versions, key=lambda entry: int(entry.name))
