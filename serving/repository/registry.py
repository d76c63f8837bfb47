"""Which versions serve, and which one a request means. Read by every call, changed by whoever loads models."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from serving.errors import ModelNotFound, NotReady
from serving.inbox import Inbox
from serving.manifest import Manifest
from serving.policy import Policy

Status = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
"""Of a version, in the words of Triton's model repository extension."""
Key = tuple[str, int]
"""A model's name and the number of its version."""


class Runnable(Inbox, Protocol):
    """What takes a version's requests, and can be started and ended; `serving.runner.Runner`."""

    def start(self) -> None:
        """Begin to take requests."""

    def drain(self) -> None:
        """Refuse new requests with `Draining`; those that were accepted are still answered."""

    def join(self) -> None:
        """Wait until all of them are; it has been drained."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """One model version that serves."""

    manifest: Manifest
    policy: Policy
    inbox: Inbox


class Version(NamedTuple):
    """A version that the repository knows, whether it serves, and why not."""

    name: str
    number: int
    status: Status
    reason: str


class Repository:
    """The versions that serve and those that do not, with their reasons. Safe to use from any thread."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self.models: Mapping[Key, Model] = {}
        """Those that serve, by name and number; replaced as a whole, never changed."""
        self._others: Mapping[Key, Version] = {}
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called now, and after each change of what serves, before what left is drained."""
        self._watchers.append(changed)
        changed()

    def serve(self, name: str, versions: Mapping[int, Model], others: Iterable[Version] = ()) -> None:
        """Let these versions of a model serve, and no others, from one moment to the next.

        Args:
            name: of the model.
            versions: that serve.
            others: that are known and do not serve; what was known of the model before is forgotten.
        """
        with self._lock:
            models = {key: model for key, model in self.models.items() if key[0] != name}
            models |= {(name, number): model for number, model in versions.items()}
            idle = {key: version for key, version in self._others.items() if key[0] != name}
            idle |= {(name, other.number): other for other in others if other.number not in versions}
            self.models = dict(sorted(models.items()))
            self._others = idle
            for changed in self._watchers:
                changed()

    def mark(self, name: str, number: int, status: Status, reason: str) -> None:
        """Say why a version does not serve; nothing changes for one that does."""
        with self._lock:
            self._others = {**self._others, (name, number): Version(name, number, status, reason)}

    def find(self, name: str, version: str) -> Model:
        """Return the model that a request means: the version it names, or the newest that serves if it names none.

        Raises:
            ModelNotFound: no such name or version.
            NotReady: it is known, but does not serve.
        """
        models, others = self.models, self._others
        serving = {number: model for (other, number), model in models.items() if other == name}
        idle = {number: entry for (other, number), entry in others.items() if other == name and number not in serving}
        if not serving and not idle:
            raise ModelNotFound(f"no model '{name}' is loaded; RepositoryIndex lists those that this server has")
        if version:
            number = next((known for known in (*serving, *idle) if str(known) == version), -1)
            if number == -1:
                raise ModelNotFound(f"model '{name}' has no version '{version}'; it has {sorted({*serving, *idle})}")
        else:
            number = max(serving or idle)
        if number in idle:
            raise NotReady(f"model '{name}' version {number} {idle[number].reason}")
        return serving[number]

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model that serve, oldest first."""
        return [number for other, number in self.models if other == name]

    def index(self) -> list[Version]:
        """Return every version that is known, by name and number."""
        entries = dict(self._others)
        entries |= {(name, number): Version(name, number, "READY", "") for name, number in self.models}
        return [entries[key] for key in sorted(entries)]
