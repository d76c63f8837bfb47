"""What engines have in common that run a session: a batch's outputs by name, and the warm-up. Opens none itself."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.engine.slices import SLICE_ROWS, Session, run_in_slices, slices_of
from serving.errors import ArtifactError
from serving.manifest import Manifest
from serving.tensors import Arrays, Layout, Rows, whole_parts

LONGEST_WARM_UP_SECONDS = 0.5
"""A call this long is the last of a warm-up: larger ones would only delay the start."""
TRIAL_ROWS = 4 * SLICE_ROWS
TRIAL_ROUNDS = 5
LONGEST_TRIAL_SECONDS = 0.05
"""Of a call; a model that takes longer for few steps is tried with fewer."""
SLICES_MAY_TAKE = 1.05
"""Of the time of a whole batch, on an idle server: under load slices gain more than that."""


class SessionEngine:
    """An engine whose calls are a session's.

    Attributes:
        name: of the engine, for the log.
        device: `cpu` or `cuda`.
        threads: of the CPU budget that a call takes; 0 on a GPU.
        padding_free: see `serving.engine.base.Engine`.
        in_slices: whether batches are computed in slices (`serving.engine.slices`) instead of whole.
    """

    name = ""
    padding_free = False
    in_slices = False

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
        if self.in_slices:
            rows = len(next(iter(feed.values())))
            outputs = run_in_slices(self._session, self._outputs, feed, rows=rows)
        else:
            outputs = self._session.run(self._outputs, feed)
        return dict(zip(self._outputs, outputs, strict=True))

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
                seconds = self._seconds(rows, steps, clock)
            measured.append((rows, steps, seconds))
            if seconds > LONGEST_WARM_UP_SECONDS:
                break
        return measured

    def choose_slices(self, measured: Sequence[tuple[int, int, float]], clock: Clock, *, most_rows: int | None) -> None:
        """Compute batches in slices from now on, unless that takes longer here.

        Args:
            measured: by the warm-up: what one slice takes tells what can be tried.
            clock: to time with.
            most_rows: of a batch; None if there is no such limit.

        Raises:
            ArtifactError: as `warm_up`.
        """
        rows = min(most_rows or TRIAL_ROWS, TRIAL_ROWS)
        longest = LONGEST_TRIAL_SECONDS * SLICE_ROWS / rows
        steps = max((steps for of, steps, seconds in measured if of == SLICE_ROWS and seconds <= longest), default=None)
        if self.device != "cpu" or slices_of(rows) == 1 or steps is None:
            return
        whole = sliced = math.inf
        for _ in range(TRIAL_ROUNDS):
            self.in_slices = False
            whole = min(whole, self._seconds(rows, steps, clock))
            self.in_slices = True
            sliced = min(sliced, self._seconds(rows, steps, clock))
        self.in_slices = sliced <= SLICES_MAY_TAKE * whole

    def _seconds(self, rows: int, steps: int, clock: Clock) -> float:
        """Return what a batch of zeros takes, from its parts to its answers."""
        started_ns = clock.now_ns()
        parts = whole_parts(self._layout.answer(_zeros(self._manifest, rows, steps)))
        try:
            self._layout.scatter(self.run(self._layout.pack(parts)), parts)
        except Exception as error:
            raise ArtifactError(f"warm-up with {rows} rows of {steps} steps failed: {error}") from error
        return (clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND


def _zeros(manifest: Manifest, rows: int, steps: int) -> Rows:
    sizes = {"batch": rows, "time": steps}
    inputs = {
        tensor.name: np.zeros([axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], tensor.dtype)
        for tensor in manifest.inputs
    }
    return Rows(inputs=inputs, lengths=np.full(rows, steps, np.int64), time=steps)
