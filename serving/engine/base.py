"""The seam between runner and engine."""

from typing import Protocol

from serving.tensors import Arrays


class Engine(Protocol):
    """Computes padded batches; blocking, called from one thread per instance."""

    @property
    def device(self) -> str:
        """Where it computes: `cpu` or `cuda`."""

    @property
    def threads(self) -> int:
        """Threads of the CPU budget that a call takes; 0 on a GPU."""

    @property
    def padding_free(self) -> bool:
        """True if a call's time follows the rows' real steps, so that padding costs nothing."""

    def run(self, feed: Arrays) -> Arrays:
        """Compute the outputs for a feed made by `serving.tensors.pack`; whatever it raises is the engine's fault."""
