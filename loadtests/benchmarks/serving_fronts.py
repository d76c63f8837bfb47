"""The fronts that are compared, each in a server of its own on the server's core."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.benchmarks.serving_measuring import SERVER_CORE, Target, on_core
from serving.wire.native import library
from training.local_server import LocalServer

NATIVE, GRPCIO = "native", "grpcio"


def fronts_here() -> tuple[str, ...]:
    """Return the fronts that a server can have here, the one that it takes by itself first."""
    return (NATIVE, GRPCIO) if library.is_built() else (GRPCIO,)


@contextmanager
def server_with(front: str, models: Path, *flags: str) -> Iterator[Target]:
    """Serve a repository through a front from the server's core, with further flags.

    Raises:
        RuntimeError: the server did not become ready.
    """
    with on_core(SERVER_CORE):
        server = LocalServer(models, "--threads", "1", "--wire", front, *flags)
    with server:
        port = int(server.address.rpartition(":")[2])
        yield Target(port=port, pid=server.process.pid, metrics_url=server.metrics_url)
