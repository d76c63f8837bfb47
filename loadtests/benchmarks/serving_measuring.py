"""Measuring a server that has one core to itself while the load comes from another."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from loadtests.generator.program import read_result

SERVER_CORE, CLIENT_CORE = 0, 1
OK = 0
CLOCK_TICKS = 100.0
"""Of the kernel's process times per second (USER_HZ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the load generator is to do.

    Attributes:
        messages: file of requests, each after its length as 4 little-endian bytes.
        seconds: how long the closed loop sends.
        callers: of the closed loop: so many, each sending its next request when answered.
        arrivals: seconds from the start, of the open loop: requests are sent whatever the answers, and latency counts
            from when they were meant to be; empty for the closed loop.
        timeout_seconds: of each call, as gRPC's deadline; 0 for none.
        stream: over one ModelStreamInfer call per caller.
        connections: that callers or arrivals are dealt out to.
    """

    messages: Path
    seconds: float = 0.0
    callers: int = 0
    arrivals: Sequence[float] = ()
    timeout_seconds: float = 0.0
    stream: bool = False
    connections: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One stretch of load.

    Attributes:
        index: which of the workload's messages each request was.
        latency: seconds from when it was meant to be sent until its answer.
        code: gRPC status of each.
        seconds: from the first request to the last answer.
        cpu_seconds: of the server's process.
        rows_per_call: mean rows of an engine call, 0 without a server of ours.
        padding_efficiency: mean over engine calls.
    """

    index: NDArray[np.int64]
    latency: NDArray[np.float64]
    code: NDArray[np.int64]
    seconds: float
    cpu_seconds: float
    rows_per_call: float = 0.0
    padding_efficiency: float = 1.0

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which requests were answered with OK."""
        answered: NDArray[np.bool_] = self.code == OK
        return answered

    @property
    def rate(self) -> float:
        """Answers per second."""
        return float(self.answered.sum() / self.seconds)

    @property
    def cpu_per_request(self) -> float:
        """Seconds of the server's CPU per request."""
        return self.cpu_seconds / len(self.code)

    def steps_rate(self, lengths: Sequence[int]) -> float:
        """Real steps answered per second."""
        steps = np.array(lengths)[self.index[self.answered]]
        return float(steps.sum() / self.seconds)

    def percentile(self, percent: float, *, among: NDArray[np.bool_] | None = None) -> float:
        """Latency in seconds of the answered, or of some of them; NaN if there are none."""
        chosen = self.answered if among is None else self.answered & among
        return float(np.percentile(self.latency[chosen], percent)) if chosen.any() else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under load on loopback: its port, which process, and where its metrics are (None: none of ours)."""

    port: int
    pid: int
    metrics_url: str | None = None


def load(target: Target, job: Job, generator: Path, folder: Path, *, model: str | None = None) -> Run:
    """Run the load generator on its core, and measure the server meanwhile.

    Args:
        target: the server.
        job: what to send.
        generator: the program.
        folder: for the job's files.
        model: whose engine calls count.

    Raises:
        subprocess.CalledProcessError: the load generator failed; its message is on standard error.
    """
    result = folder / "result"
    calls_before = _engine_calls(target, model)
    before = _cpu_seconds(target.pid)  # last: telling of its engine calls costs the server CPU
    command = ["taskset", "-c", str(CLIENT_CORE), str(generator), *_flags(target, job, folder), "--result", str(result)]
    subprocess.run(command, check=True)  # noqa: S603  our own program
    cpu = _cpu_seconds(target.pid) - before
    calls, rows, efficiency = (now - then for now, then in zip(_engine_calls(target, model), calls_before, strict=True))
    records = read_result(result)
    return Run(
        index=records["index"].astype(np.int64),
        latency=records["ended"] - records["meant"],
        code=records["status"].astype(np.int64),
        seconds=float(records["ended"].max()),
        cpu_seconds=cpu,
        rows_per_call=rows / calls if calls else 0.0,
        padding_efficiency=efficiency / calls if calls else 1.0,
    )


def _flags(target: Target, job: Job, folder: Path) -> list[str]:
    flags = ["--port", str(target.port), "--messages", str(job.messages), "--connections", str(job.connections)]
    if job.timeout_seconds:
        flags += ["--timeout-us", str(round(job.timeout_seconds * 1e6))]
    if len(job.arrivals):
        arrivals = folder / "arrivals"
        arrivals.write_bytes(np.array(job.arrivals, "<f8").tobytes())
        return [*flags, "--arrivals", str(arrivals)]
    flags += ["--callers", str(job.callers), "--seconds", str(job.seconds)]
    return [*flags, "--stream"] if job.stream else flags


@contextmanager
def floor(kind: str, answer: Path, *, model: Sequence[str] = ()) -> Iterator[Target]:
    """Run a server that looks at no request (see `serving_floor`), and answers with the file's bytes.

    Args:
        kind: `threads` or `completions`.
        answer: what it sends.
        model: file, rows, steps and features of a model that `threads` runs for every call.
    """
    command = [sys.executable, "-m", "loadtests.benchmarks.serving_floor", kind, str(answer), str(SERVER_CORE), *model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own program
        assert process.stdout is not None, "stdout is a pipe"
        try:
            yield Target(port=int(process.stdout.readline()), pid=process.pid)
        finally:
            process.terminate()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Stay on one core inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _engine_calls(target: Target, model: str | None) -> tuple[float, float, float]:
    """Return engine calls, rows in them and the sum of their padding efficiencies so far."""
    if target.metrics_url is None or model is None:
        return 0.0, 0.0, 0.0
    with urllib.request.urlopen(target.metrics_url, timeout=10) as page:  # noqa: S310  loopback
        families = list(text_string_to_metric_families(page.read().decode()))
    values = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model") == model and "le" not in sample.labels
    }
    return (
        values["lstm_batch_rows_count"],
        values["lstm_batch_rows_sum"],
        values["lstm_padding_efficiency_ratio_sum"],
    )
