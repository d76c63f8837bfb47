"""Who decides what is loaded: the start, the files as they change, or an administrator.

One thread does all of it, one model after the other.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import Literal

from serving.errors import ArtifactError, ControlOff, Draining, LoadRefused, ModelNotFound
from serving.manifest import is_model_name
from serving.repository.folders import ModelFolder, scan, scan_model
from serving.repository.loading import Loading
from serving.repository.registry import Repository, Version

log = logging.getLogger(__name__)

Mode = Literal["none", "poll", "explicit"]
"""Who decides what is loaded after the start: nobody, the files, or calls. Names as Triton has them."""


class ModelControl:
    """The one that changes a repository."""

    def __init__(self, repository: Repository, loading: Loading, *, mode: Mode) -> None:
        """Prepare; nothing is loaded before `start`.

        Args:
            repository: what serves.
            loading: changes it; nobody else uses it.
            mode: who decides after the start.
        """
        self._root = loading.root
        self._repository = repository
        self._loading = loading
        self._mode: Mode = mode
        self._seen: Mapping[str, ModelFolder] = {}
        """What the last look found."""
        self._brought_up: dict[str, ModelFolder] = {}
        self._complaints: dict[str, str] = {}
        """What was said last of folders that cannot be read, by model, so that it is not said at every look."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model-control")
        self._stopped = threading.Event()
        self._poller = threading.Thread(target=self._poll_until_stopped, name="model-poll")
        self._poll_seconds = 0.0

    def start(self, names: Sequence[str], *, poll_seconds: float) -> None:
        """Load what serves from the start, and begin to look for changes.

        Args:
            names: of the models to load under `explicit`; otherwise all are.
            poll_seconds: between two looks, under `poll`.

        Raises:
            EngineUnavailable: no onnxruntime, or not the device or engine asked for.
            ArtifactError: nothing can be served. Under `poll` and `explicit` the repository may be empty; a model that
                was named must serve.
        """
        self._thread.submit(self._load_first, names).result()
        self._loading.keeps_going = True
        if self._mode == "poll":
            self._poll_seconds = poll_seconds
            self._poller.start()

    def stop(self) -> None:
        """Change nothing any more, answer what was accepted, and let every version go. Waits for a load under way."""
        self._stopped.set()
        if self._poller.ident is not None:
            self._poller.join()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._loading.stop()

    def load(self, name: str) -> None:
        """Load a model from its files, whether it serves already or not; returns when it serves.

        Raises:
            ControlOff: the mode is not `explicit`.
            ModelNotFound: the repository has no such folder, or no version in it.
            LoadRefused: a version that should serve cannot be trusted or read; what served before still does.
        """
        self._carry_out(self._load_one, name)

    def unload(self, name: str) -> None:
        """Let a model go; returns when what it had accepted is answered.

        Raises:
            ControlOff: the mode is not `explicit`.
            ModelNotFound: it does not serve.
        """
        self._carry_out(self._unload_one, name)

    def index(self) -> list[Version]:
        """Return every version that is or was to be served, and why those that do not serve do not.

        Under `explicit` also those that lie in the repository and could be loaded.
        """
        known = {(version.name, version.number): version for version in self._repository.index()}
        if self._mode == "explicit":
            with suppress(ArtifactError):
                for name, folder in scan(self._root).items():
                    for number in folder.versions:
                        known.setdefault((name, number), Version(name, number, "UNAVAILABLE", "is not loaded"))
        return [known[key] for key in sorted(known)]

    def _carry_out(self, order: Callable[[str], None], name: str) -> None:
        if self._mode != "explicit":
            raise ControlOff(
                f"models are loaded and unloaded by calls only under --model-control explicit; this server has "
                f"--model-control {self._mode}"
            )
        try:
            done = self._thread.submit(order, name)
        except RuntimeError as error:  # it has been shut down
            raise Draining("the server is stopping") from error
        try:
            done.result()
        except CancelledError as error:
            raise Draining("the server is stopping") from error

    def _load_first(self, names: Sequence[str]) -> None:
        folders = scan(self._root)
        wanted = list(names) if self._mode == "explicit" else list(folders)
        for name in wanted:
            folder = folders.get(name) or ModelFolder(name, (), {})
            if self._is_readable(folder):
                self._bring_up(folder)
            if self._mode == "explicit" and not self._repository.versions(name):
                whys = [version.reason for version in self._repository.index() if version.name == name]
                whys += [folder.unreadable] if folder.unreadable else []
                raise ArtifactError(
                    f"--load-model {name}: {'; '.join(whys) or f'no version of it lies in {self._root}'}"
                )
        self._seen = folders
        if self._mode != "none" or self._repository.models:
            return
        if self._loading.refused:
            raise ArtifactError(
                f"{self._root}: all {self._loading.refused} model versions were refused; the reasons are in the log"
            )
        raise ArtifactError(
            f"{self._root}: no model version found; expected <name>/<version>/manifest.json in it, as lstm-export "
            "writes"
        )

    def _load_one(self, name: str) -> None:
        folder = scan_model(self._root, name) if is_model_name(name) else None
        if folder is not None and folder.unreadable:
            raise LoadRefused(f"model '{name}': {folder.unreadable}; {self._serving(name)}")
        if folder is None or not folder.versions:
            raise ModelNotFound(f"no version of a model '{name}' lies in the repository")
        refused = self._bring_up(folder, again=True)
        if refused:
            whys = "; ".join(f"version {number} {why}" for number, why in sorted(refused.items()))
            raise LoadRefused(f"model '{name}': {whys}; {self._serving(name)}")

    def _serving(self, name: str) -> str:
        versions = self._repository.versions(name)
        return f"versions {versions} serve" if versions else "no version serves"

    def _unload_one(self, name: str) -> None:
        if name not in self._loading.names:
            raise ModelNotFound(f"model '{name}' is not loaded")
        self._loading.unload(name)

    def _poll_until_stopped(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            self._thread.submit(self._poll).result()

    def _poll(self) -> None:
        """Load what has changed, once two looks in a row have found the same: a copy that is under way has ended."""
        try:
            folders = scan(self._root)
        except ArtifactError as error:
            self._complain("", str(error))
            return
        self._complain("", "")
        gone = self._loading.names - folders.keys()
        for name in sorted({*folders, *gone}):
            folder = folders.get(name) or ModelFolder(name, (), {})
            if not self._is_readable(folder):
                continue
            settled = folder == (self._seen.get(name) or ModelFolder(name, (), {}))
            if settled and folder != self._brought_up.get(name):
                self._bring_up(folder)
        self._seen = folders

    def _is_readable(self, folder: ModelFolder) -> bool:
        self._complain(folder.name, folder.unreadable)
        return not folder.unreadable

    def _complain(self, name: str, why: str) -> None:
        """Say of a folder that it cannot be read, unless that has just been said; without a reason, forget it."""
        if why and self._complaints.get(name) != why:
            log.error("%s; what serves goes on serving", why, extra={"event": "unreadable"})
        self._complaints[name] = why

    def _bring_up(self, folder: ModelFolder, *, again: bool = False) -> dict[int, str]:
        refused = self._loading.bring_up(folder, again=again)
        if self._loading.tries_again(folder.name):
            self._brought_up.pop(folder.name, None)
        else:
            self._brought_up[folder.name] = folder
        return refused
