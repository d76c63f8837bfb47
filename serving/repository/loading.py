"""Opens versions of models beside those that serve, swaps them in, and lets the old ones go. One thread at a time.

A version that is to serve is read, verified against its checksums, opened and warmed up beside the one that serves;
only then do requests go to the new one, and the old one is drained. Whatever is wrong with the new one leaves the old
one in service.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.allocator import return_memory
from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import Manifest, read_manifest
from serving.policy import Latest, Policy, read_policy
from serving.repository.folders import ModelFolder, Stamp
from serving.repository.registry import Key, Model, Repository, Runnable, Version

log = logging.getLogger(__name__)
NOT_WANTED = "is none of the versions that model.yaml and the repository's files ask for"

Loader = Callable[[Manifest, Policy, Path], Runnable]
"""Makes a verified version's folder ready to take requests; raises ArtifactError."""


class LoadMetrics(Protocol):
    """What is reported of loading."""

    def model_loaded(self, model: str, version: str, seconds: float) -> None:
        """A version took so long to load, and serves."""

    def model_refused(self, model: str) -> None:
        """A version of a model was refused."""

    def model_unloaded(self, model: str) -> None:
        """A version takes no more requests."""

    def forget(self, model: str, version: str) -> None:
        """All that a version had accepted is answered, and nothing is to be reported of it any more."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version that serves, what drains it, and the files that it was made of."""

    model: Model
    runner: Runnable
    stamps: tuple[Stamp, Stamp]


class Loading:
    """What is loaded of a repository, and what was refused."""

    def __init__(self, root: Path, repository: Repository, load: Loader, *, clock: Clock, metrics: LoadMetrics) -> None:
        """Start with nothing loaded.

        Args:
            root: folder of the models.
            repository: what serves; nobody else changes it.
            load: makes a version ready.
            clock: that loading is timed by.
            metrics: of loading.
        """
        self.root = root
        self._repository = repository
        self._load = load
        self._clock = clock
        self._metrics = metrics
        self.keeps_going = False
        """Whether an engine that is not there is one version's trouble, and not the whole server's."""
        self._loaded: dict[Key, _Loaded] = {}
        self._refused: dict[Key, tuple[tuple[Stamp, Stamp], str]] = {}
        """What was found wrong with which files, so that they are not read again and again."""
        self._unread: set[Key] = set()
        """Of these, whose files could not be read, which says nothing about what is in them."""

    @property
    def names(self) -> set[str]:
        """Models of which a version is loaded."""
        return {name for name, _ in self._loaded}

    @property
    def refused(self) -> int:
        """Versions that were refused as they lie on disk."""
        return len(self._refused)

    def tries_again(self, name: str) -> bool:
        """Return whether a version of the model may load from the very files that it was refused with."""
        return any(key[0] == name for key in self._unread)

    def stop(self) -> None:
        """Answer what was accepted, and nothing more."""
        runners = [loaded.runner for loaded in self._loaded.values()]
        for runner in runners:
            runner.drain()
        for runner in runners:
            runner.join()

    def bring_up(self, folder: ModelFolder, *, again: bool = False) -> dict[int, str]:
        """Make a model serve what its folder says.

        Args:
            folder: as it is on disk.
            again: load also what is served from these very files.

        Returns:
            Why versions were refused.

        Raises:
            EngineUnavailable: no onnxruntime, or not the device or engine asked for; unless the server `keeps_going`.
        """
        name = folder.name
        on_disk = {(name, number) for number in folder.versions}
        self._refused = {key: why for key, why in self._refused.items() if key[0] != name or key in on_disk}
        self._unread &= self._refused.keys()
        serving = {number: loaded for (other, number), loaded in self._loaded.items() if other == name}
        refused: dict[int, str] = {}
        keep: dict[int, _Loaded] = {}
        try:
            policy = read_policy(self.root / name)
        except ArtifactError as error:
            for number, stamp in folder.versions.items():
                self._refuse((name, number), (folder.policy, stamp), error)
            refused, keep = dict.fromkeys(folder.versions, str(error)), dict(serving)
        else:
            for number in _wanted(policy, folder.versions):
                loaded = self._loaded_version(folder, number, policy, refused, again=again)
                loaded = loaded or (serving.get(number) if number in refused else None)
                if loaded is not None:
                    keep[number] = loaded
                if isinstance(policy.versions, Latest) and len(keep) == policy.versions.latest:
                    break
        if not keep and refused:
            keep = dict(serving)  # the last good versions stay until there are other good ones
        left = {(name, number): old for number, old in serving.items() if keep.get(number) is not old}
        idle = [Version(name, number, "UNAVAILABLE", f"was refused at load: {why}") for number, why in refused.items()]
        idle += [Version(name, number, "UNLOADING", NOT_WANTED) for _, number in left]
        self._repository.serve(name, {number: loaded.model for number, loaded in keep.items()}, idle)
        self._loaded = {key: loaded for key, loaded in self._loaded.items() if key[0] != name}
        self._loaded |= {(name, number): loaded for number, loaded in keep.items()}
        serving.clear()  # nothing here may hold on to what is to be freed
        self._retire(left, reason=NOT_WANTED)
        return refused

    def unload(self, name: str) -> None:
        """Let a loaded model go."""
        leaving = [key for key in self._loaded if key[0] == name]
        self._repository.serve(name, {}, [Version(*key, "UNLOADING", "was unloaded") for key in leaving])
        self._retire({key: self._loaded.pop(key) for key in leaving}, reason="was unloaded")

    def _loaded_version(
        self, folder: ModelFolder, number: int, policy: Policy, refused: dict[int, str], *, again: bool
    ) -> _Loaded | None:
        """Return a version that serves these files: the one there is, or a new one; None, and why, if it is refused."""
        key = (folder.name, number)
        stamps = (folder.policy, folder.versions[number])
        present = self._loaded.get(key)
        if present is not None and present.stamps == stamps and not again:
            return present
        known = self._refused.get(key)
        if known is not None and known[0] == stamps and not again and key not in self._unread:
            refused[number] = known[1]
            return None
        if present is None:
            self._repository.mark(*key, "LOADING", "is being loaded")
        try:
            loaded = self._open(key, policy, stamps)
        except ArtifactError as error:
            refused[number] = str(error)
            self._refuse(key, stamps, error)
            return None
        self._refused.pop(key, None)
        self._unread.discard(key)
        return loaded

    def _open(self, key: Key, policy: Policy, stamps: tuple[Stamp, Stamp]) -> _Loaded:
        name, number = key
        started_ns = self._clock.now_ns()
        directory = self.root / name / str(number)
        try:
            manifest = read_manifest(directory)
            runner = self._load(manifest, policy, directory)
        except ArtifactError:
            raise
        except OSError as error:
            raise ArtifactError(f"{error.filename or directory}: cannot be read ({error.strerror})") from error
        except EngineUnavailable as error:
            if not self.keeps_going:
                raise
            raise ArtifactError(str(error)) from error
        except Exception as error:
            log.exception("loading %s version %d failed in a way that was not foreseen", name, number)
            raise ArtifactError(f"{directory}: loading failed ({type(error).__name__}); the log has more") from error
        runner.start()
        seconds = (self._clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND
        self._metrics.model_loaded(name, str(number), seconds)
        return _Loaded(Model(manifest=manifest, policy=policy, inbox=runner), runner, stamps)

    def _refuse(self, key: Key, stamps: tuple[Stamp, Stamp], error: ArtifactError) -> None:
        why = str(error)
        told = key in self._unread and self._refused[key] == (stamps, why)
        self._refused[key] = (stamps, why)
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            self._unread.add(key)
        else:
            self._unread.discard(key)
        if told:  # it was tried again, with the same outcome
            return
        self._metrics.model_refused(key[0])
        log.error(
            "refused %s version %d: %s",
            *key, why, extra={"event": "model_refused", "model": key[0], "version": str(key[1])},
        )  # fmt: skip

    def _retire(self, leaving: dict[Key, _Loaded], *, reason: str) -> None:
        """Drain versions that no request finds any more, and give their memory back."""
        if not leaving:
            return
        gone = [key for key in leaving if key not in self._loaded]
        for loaded in leaving.values():
            loaded.runner.drain()
        for loaded in leaving.values():
            loaded.runner.join()
        for name, number in gone:
            self._metrics.model_unloaded(name)
            self._metrics.forget(name, str(number))
            self._repository.mark(name, number, "UNAVAILABLE", reason)
            log.info(
                "unloaded %s version %d",
                name, number, extra={"event": "model_unloaded", "model": name, "version": str(number)},
            )  # fmt: skip
        leaving.clear()
        del loaded
        return_memory()


def _wanted(policy: Policy, versions: Iterable[int]) -> Iterator[int]:
    """Name the versions to try, newest first."""
    newest_first = sorted(versions, reverse=True)
    if isinstance(policy.versions, tuple):
        return (number for number in newest_first if number in policy.versions)
    return iter(newest_first)
