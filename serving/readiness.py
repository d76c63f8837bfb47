"""Whether calls should come to this server, told to all who ask."""

from typing import Protocol

from serving.metrics import ServerMetrics
from serving.repository import Repository


class Told(Protocol):
    """The gRPC server, on whichever front."""

    def set_ready(self, *, ready: bool) -> None:
        """Say to health checks whether calls should come here."""


class Readiness:
    """Whether calls should come here: from `begin` to `end`, as long as there is something to serve."""

    def __init__(self, repository: Repository, metrics: ServerMetrics, *, without_models: bool) -> None:
        self._repository = repository
        self._metrics = metrics
        self._without_models = without_models
        self._server: Told | None = None
        self._ended = False
        self.ready = False

    def begin(self, server: Told) -> None:
        """Have all who ask told, from now on."""
        self._server = server
        self._repository.watch(self._tell)

    def end(self) -> None:
        """Have all who ask told that calls should go elsewhere."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        assert self._server is not None, "it has begun"
        self.ready = not self._ended and (self._without_models or bool(self._repository.models))
        self._server.set_ready(ready=self.ready)
        self._metrics.ready.set(self.ready)
