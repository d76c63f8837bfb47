"""Many connections with many requests in flight: does one fail, and what memory does it take?"""

import time
from pathlib import Path

from loadtests.benchmarks.serving_figures import MILLISECONDS, Figure, by_front
from loadtests.benchmarks.serving_fronts import server_with
from loadtests.benchmarks.serving_measuring import Job, Run
from loadtests.benchmarks.serving_models import REQUESTS, TINY, write_models
from loadtests.benchmarks.serving_workloads import TINY_STEPS, Bench

MODEL = "tiny"
MIB = 1024
"""In the kernel's kB."""
CLOSING_SECONDS = 60.0
"""That a server may take to be done with connections that are gone."""
RESET_PEAK = "5"
"""As the kernel's proc(5) has it, for clear_refs."""


def many_connections(bench: Bench) -> list[Figure]:
    """Load a fresh server of each front once; its limits are those that so many requests need.

    Raises:
        ExportError: the model cannot be exported.
        RuntimeError: the server did not become ready, or keeps connections.
    """
    models = bench.folder / "models-of-many"
    write_models(TINY, models, {MODEL: f"max_queue_rows: {bench.in_flight}"})
    job = Job(
        messages=bench.messages(MODEL, TINY, [TINY_STEPS] * REQUESTS),
        seconds=bench.seconds,
        callers=bench.in_flight,
        connections=bench.connections,
    )
    runs: dict[str, Run] = {}
    memory: dict[str, dict[str, float]] = {"before": {}, "peak": {}, "after": {}}
    limits = ["--max-connections", str(bench.connections), "--max-inflight-requests", str(bench.in_flight)]
    for front in bench.fronts:
        with server_with(front, models, *limits) as target:
            memory["before"][front] = _memory(target.pid, "VmRSS")
            descriptors = _descriptors(target.pid)
            Path(f"/proc/{target.pid}/clear_refs").write_text(RESET_PEAK, encoding="ascii")
            runs[front] = bench.load(job, MODEL, target=target)
            _wait_closed(target.pid, descriptors)
            memory["after"][front] = _memory(target.pid, "VmRSS")
            memory["peak"][front] = _memory(target.pid, "VmHWM")
    workload = f"{bench.connections:,} connections, {bench.in_flight:,} requests in flight"
    failed = {front: [float((~run.answered).sum())] for front, run in runs.items()}
    return [
        *by_front(workload, "requests that failed", failed, target=0.0, at_least=False),
        *by_front(workload, "requests/s", {front: [run.rate] for front, run in runs.items()}),
        *by_front(workload, "p99, ms", {front: [run.percentile(99) * MILLISECONDS] for front, run in runs.items()}),
        *(
            each
            for when, values in memory.items()
            for each in by_front(workload, f"memory {when}, MiB", {front: [mib] for front, mib in values.items()})
        ),
    ]


def _wait_closed(pid: int, descriptors: int) -> None:
    """Wait until a process has no more descriptors than these: nothing else tells that it is done with connections."""
    end = time.monotonic() + CLOSING_SECONDS
    while _descriptors(pid) > descriptors:
        if time.monotonic() > end:
            raise RuntimeError(f"the server still has connections {CLOSING_SECONDS:.0f} s after they were closed")
        time.sleep(0.01)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int, field: str) -> float:
    """Return MiB of resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / MIB for line in lines if line.startswith(f"{field}:"))
