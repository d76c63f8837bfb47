"""A real server on a core of its own, and what its threads take of it."""

import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from loadtests.benchmarks.serving_measuring import CLOCK_TICKS, SERVER_CORE, Target, on_core
from loadtests.simulate.costs import ServerCost
from training.local_server import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBES = 500
SCRAPES = 200


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU of the server's threads so far.

    Attributes:
        front: of those that take and answer requests.
        engine: of those that compute, which are nicer.
    """

    front: float
    engine: float

    def since(self, before: "Cpu") -> "Cpu":
        """Return what was used since then."""
        return Cpu(self.front - before.front, self.engine - before.engine)


@contextmanager
def server_of(models: Path) -> "Iterator[tuple[Target, float]]":
    """Serve a repository from one core; yields the server and the seconds that it took to become ready."""
    began = time.perf_counter()
    with on_core(SERVER_CORE):
        server = LocalServer(models, "--threads", "1", "--wire", "grpcio")  # whose threads the replica mirrors
    seconds = time.perf_counter() - began
    with server:
        port = int(server.address.rpartition(":")[2])
        yield Target(port=port, pid=server.process.pid, metrics_url=server.metrics_url), seconds


def cpu_of(pid: int) -> Cpu:
    """Read the CPU time of a server's threads; those that have ended count to the front, as those of scrapes do."""
    whole, level = _stat(Path(f"/proc/{pid}/stat"))
    threads = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread of a scrape ended meanwhile
            threads.append(_stat(task / "stat"))
    engine = sum(seconds for seconds, nice in threads if nice > level)
    return Cpu(whole - engine, engine)


def _stat(path: Path) -> tuple[float, int]:
    """Return seconds of CPU, and the nice level."""
    fields = path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS, int(fields[16])


def requests_by_outcome(target: Target) -> dict[tuple[str, str], float]:
    """Return how many requests ended so far, by model (empty if it was not known) and outcome."""
    return {
        (sample.labels["model"], sample.labels["outcome"]): sample.value
        for family in text_string_to_metric_families(_page(target).decode())
        for sample in family.samples
        if sample.name == "lstm_requests_total"
    }


def cost_of_server(target: Target, *, start_seconds: float, model: str) -> ServerCost:
    """Measure what scrapes and probes cost a server that does nothing else."""
    page = _page(target)
    samples = [each for family in text_string_to_metric_families(page.decode()) for each in family.samples]
    of_version = [each for each in samples if each.labels.get("version") and each.labels.get("model") == model]
    load_seconds = sum(each.value for each in samples if each.name == "lstm_model_load_seconds_sum")
    before = cpu_of(target.pid)
    for _ in range(SCRAPES):
        _page(target)
    scraped = cpu_of(target.pid)
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(PROBES):
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10)  # type: ignore[attr-defined]  # not in its types
    probed = cpu_of(target.pid)
    return ServerCost(
        start=start_seconds,
        load=load_seconds,
        version_series=len(of_version),
        server_series=len(samples) - len(of_version),
        page_bytes=len(page),
        scrape=scraped.since(before).front / SCRAPES,
        probe=probed.since(scraped).front / PROBES,
    )


def _page(target: Target) -> bytes:
    assert target.metrics_url is not None, "the server is ours"
    with urllib.request.urlopen(target.metrics_url, timeout=10) as page:  # noqa: S310  loopback
        content: bytes = page.read()
    return content
