"""A batch in slices of its rows: what a large one computes in between leaves the caches, what a slice does stays there.

The more so in a server, which takes requests and sends answers on the same cores while the engine computes. It costs
the calls of the session that it adds, and reading the weights in each of them, so wide models and calls of several
threads may be better off whole: `SessionEngine.choose_slices` tries it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from serving.tensors import Array, Arrays

SLICE_ROWS = 16
"""About so many rows: fewer read the weights too often, more gain less (8 to 32 measured, FP32 and INT8)."""


class Session(Protocol):
    """A loaded model: onnxruntime's InferenceSession, or what stands in its place."""

    def run(self, names: Sequence[str], feed: Arrays, /) -> Sequence[Array]:
        """Compute the named outputs of a feed, in their order."""


def slices_of(rows: int) -> int:
    """Return how many slices, of nearly equal rows, a batch of so many is cut into; 1 if it is not."""
    return max(1, round(rows / SLICE_ROWS))


def run_in_slices(session: Session, names: Sequence[str], feed: Arrays, *, rows: int) -> Sequence[Array]:
    """Compute the named outputs of a feed, slice by slice.

    Args:
        session: that computes.
        names: of its outputs, each dtype[rows, ...].
        feed: of the session, each dtype[rows, ...].
        rows: of the batch.
    """
    count = slices_of(rows)
    if count == 1:
        return session.run(names, feed)
    edges = [rows * slice_ // count for slice_ in range(count + 1)]
    computed = [
        session.run(names, {name: values[start:stop] for name, values in feed.items()})
        for start, stop in pairwise(edges)
    ]
    return [np.concatenate(pieces) for pieces in zip(*computed, strict=True)]
