"""The seam between runner and engine."""

from typing import Protocol

from serving.tensors import Arrays


class Engine(Protocol):
    """Computes one padded batch at a time; blocking, called from one thread."""

    @property
    def device(self) -> str:
        """Where it computes: `cpu` or `cuda`."""

    def run(self, feed: Arrays) -> Arrays:
        """Compute the outputs for a feed made by `serving.tensors.pack`; whatever it raises is the engine's fault."""
