"""What engines have in common that run a session: a batch's outputs by name, and the warm-up. Opens none itself."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import ArtifactError
from serving.manifest import Manifest
from serving.tensors import Array, Arrays, Layout, Rows, whole_parts

LONGEST_WARM_UP_SECONDS = 0.5
"""A call this long is the last of a warm-up: larger ones would only delay the start."""


class Session(Protocol):
    """A loaded model: onnxruntime's InferenceSession, or what stands in its place."""

    def run(self, names: Sequence[str], feed: Arrays, /) -> Sequence[Array]:
        """Compute the named outputs of a feed, in their order."""


class SessionEngine:
    """An engine whose calls are a session's.

    Attributes:
        name: of the engine, for the log.
        device: `cpu` or `cuda`.
        threads: of the CPU budget that a call takes; 0 on a GPU.
        padding_free: see `serving.engine.base.Engine`.
    """

    name = ""
    padding_free = False

    def __init__(self, manifest: Manifest, session: Session, *, device: str, threads: int) -> None:
        """Compute the manifest's outputs with the session."""
        self._manifest = manifest
        self._layout = Layout(manifest)
        self._outputs = list(self._layout.produced)
        self._session = session
        self.device = device
        self.threads = threads

    def run(self, feed: Arrays) -> Arrays:
        """Compute the manifest's outputs, and a stepwise model's next state, for a packed feed."""
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def warm_up(self, shapes: Iterable[tuple[int, int]], clock: Clock) -> list[tuple[int, int, float]]:
        """Run zeros for each (rows, steps), so that the first callers do not pay for allocation and kernel choice.

        A shape whose row takes too long for a warm-up ends it; the first is always run.

        Returns:
            (rows, steps, seconds) of each shape's second run: what the cost model starts from.

        Raises:
            ArtifactError: the model fails on them, or answers in other shapes than its manifest says.
        """
        measured = []
        for rows, steps in shapes:
            for _ in range(2):
                started_ns = clock.now_ns()
                parts = whole_parts(self._layout.answer(_zeros(self._manifest, rows, steps)))
                try:
                    self._layout.scatter(self.run(self._layout.pack(parts)), parts)
                except Exception as error:
                    raise ArtifactError(f"warm-up with {rows} rows of {steps} steps failed: {error}") from error
                seconds = (clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND
            measured.append((rows, steps, seconds))
            if seconds > LONGEST_WARM_UP_SECONDS:
                break
        return measured


def _zeros(manifest: Manifest, rows: int, steps: int) -> Rows:
    sizes = {"batch": rows, "time": steps}
    inputs = {
        tensor.name: np.zeros([axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], tensor.dtype)
        for tensor in manifest.inputs
    }
    return Rows(inputs=inputs, lengths=np.full(rows, steps, np.int64), time=steps)
