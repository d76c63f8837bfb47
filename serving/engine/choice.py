"""Which engine runs a version: what the version prefers, what the operator asked for, and what is there."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Literal

from serving.engine.native.library import load_library
from serving.engine.native.session import NativeSession
from serving.engine.onnx import Device, OnnxEngine
from serving.engine.sessions import SessionEngine
from serving.errors import EngineUnavailable
from serving.manifest import Manifest
from serving.plan import NATIVE_DIRECTORY, Plan

log = logging.getLogger(__name__)

EngineName = Literal["auto", "native", "onnxruntime"]


class NativeEngine(SessionEngine):
    """A version's native plan. It computes on the CPU whatever the device asked for, as all INT8 does.

    Padding counts as free although ONNX Runtime still computes it in what lies between the recurrent layers (heads,
    embeddings): that is little beside them, since only models whose recurrent layers were quantized have a plan.
    """

    name = "native"
    padding_free = True

    def __init__(self, manifest: Manifest, plan: Plan, directory: Path, *, threads: int) -> None:
        """Load the plan.

        Args:
            manifest: of the version.
            plan: of the manifest.
            directory: the version's; its files' checksums have been verified.
            threads: threads of one call.

        Raises:
            EngineUnavailable: the library was not built, or no onnxruntime.
            ArtifactError: a file is not what the plan says of it.
        """
        session = NativeSession(directory / NATIVE_DIRECTORY, plan, threads=threads)
        super().__init__(manifest, session, device="cpu", threads=threads)


class EngineChoice:
    """Opens the engine of each version that a server loads."""

    def __init__(self, engine: EngineName, device: Device) -> None:
        """Take what the operator asked for.

        Args:
            engine: `native` runs every version that has a native plan, preferred or not; `onnxruntime` none; `auto`
                those that prefer it, if the library was built.
            device: for versions that onnxruntime runs.

        Raises:
            EngineUnavailable: `native` was asked for, and its library was not built.
        """
        self._engine = engine
        self._device: Device = device
        if engine == "native":
            load_library()

    def open(self, manifest: Manifest, directory: Path, *, threads: int) -> SessionEngine:
        """Open the engine of the version in `directory`, whose calls take so many threads on the CPU.

        Raises:
            EngineUnavailable: no onnxruntime, or not the device or instruction set that was asked for.
            ArtifactError: the version's files cannot be run.
        """
        if manifest.native is not None and self._takes_native(manifest):
            return NativeEngine(manifest, manifest.native, directory, threads=threads)
        return OnnxEngine(manifest, directory / manifest.file.name, device=self._device, threads=threads)

    def _takes_native(self, manifest: Manifest) -> bool:
        if self._engine == "auto":
            return manifest.int8 is not None and manifest.int8.engine == "native" and self._library_is_there
        return self._engine == "native"

    @cached_property
    def _library_is_there(self) -> bool:
        """Asked by the first version that wants it, so that what is missing is said once, and to those it concerns."""
        try:
            load_library()
        except EngineUnavailable as error:
            log.warning("%s; until then onnxruntime runs the versions that prefer it, from their model.onnx", error)
            return False
        return True
