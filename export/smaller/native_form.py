"""A model in parts, in memory: what is written into the folder `native`, and how it is run from there."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError
from export.smaller.coverage import Coverage
from serving.engine.native.session import NativeSession
from serving.plan import WEIGHTS_FILE, Plan, PlanFile


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeForm:
    """A model in parts.

    Attributes:
        plan: the parts.
        files: of the folder `native`, by name.
        coverage: what became of the nodes that hold weights.
        floats: for each node of the native engine, a model of the same node in FP32.
        largest_hidden: units of the largest INT8 layer.
    """

    plan: Plan
    files: Mapping[str, bytes]
    coverage: Coverage
    floats: Mapping[str, bytes]
    largest_hidden: int

    @property
    def contents(self) -> tuple[bytes, ...]:
        """The ONNX files that hold the float parts."""
        return tuple(content for name, content in self.files.items() if name != WEIGHTS_FILE)

    @property
    def packed_bytes(self) -> int:
        """Bytes of INT8 weights beside the ONNX files."""
        return len(self.files[WEIGHTS_FILE])

    def session(self) -> NativeSession:
        """Load the parts, for one thread.

        Raises:
            EngineUnavailable: the native library was not built.
        """
        return open_parts(self.files, self.plan)


def open_parts(files: Mapping[str, bytes], plan: Plan) -> NativeSession:
    """Load a plan whose files are in memory, for one thread.

    Raises:
        EngineUnavailable: the native library was not built.
        ExportError: the temporary folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as directory:  # what is mapped stays mapped when its name is gone
        try:
            for name, content in files.items():
                (Path(directory) / name).write_bytes(content)
        except OSError as error:
            raise ExportError(
                f"the native form needs {sum(map(len, files.values())):,} bytes in the temporary folder "
                f"{tempfile.gettempdir()}: {error.strerror or error}"
            ) from error
        return NativeSession(Path(directory), plan, threads=1)


def plan_file(name: str, content: bytes) -> PlanFile:
    """Return a file's entry in the plan."""
    return PlanFile(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
