"""Measuring a server that has one core to itself while the load comes from another."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from loadtests.benchmarks.serving_client import OK, Job
from loadtests.benchmarks.serving_models import Size

SERVER_CORE, CLIENT_CORE = 0, 1
WARM_UP_SECONDS = 0.5
BATCHES = (1, 8, 16, 32, 64, 128)
CLOCK_TICKS = 100.0
"""Of the kernel's process times per second (USER_HZ)."""


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
        """Latency in seconds of the answered, or of some of them."""
        chosen = self.answered if among is None else self.answered & among
        return float(np.percentile(self.latency[chosen], percent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under load: where it is, which process, and where its metrics are (None: none of ours)."""

    address: str
    pid: int
    metrics_url: str | None = None


def load(target: Target, job: Job, folder: Path, *, model: str | None = None) -> Run:
    """Run a job in a process of its own, and measure the server meanwhile.

    Args:
        target: the server.
        job: what to send.
        folder: for the job's file.
        model: whose engine calls count.

    Raises:
        subprocess.CalledProcessError: the load generator failed; its message is on standard error.
    """
    description = folder / "job.json"
    job.write(description)
    before, calls_before = _cpu_seconds(target.pid), _engine_calls(target, model)
    command = [sys.executable, "-m", "loadtests.benchmarks.serving_client", str(description)]
    subprocess.run(command, check=True)  # noqa: S603  our own program
    cpu = _cpu_seconds(target.pid) - before
    calls, rows, efficiency = (now - then for now, then in zip(_engine_calls(target, model), calls_before, strict=True))
    with np.load(job.result) as result:
        return Run(
            index=result["index"],
            latency=result["ended"] - result["meant"],
            code=result["code"],
            seconds=float(result["ended"].max()),
            cpu_seconds=cpu,
            rows_per_call=rows / calls if calls else 0.0,
            padding_efficiency=efficiency / calls if calls else 1.0,
        )


@contextmanager
def floor(kind: str, answer: Path) -> Iterator[Target]:
    """Run grpcio's own server, `threads` or `asyncio`, that answers with the file's bytes."""
    command = [sys.executable, "-m", "loadtests.benchmarks.serving_floor", kind, str(answer), str(SERVER_CORE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own program
        assert process.stdout is not None, "stdout is a pipe"
        try:
            yield Target(address=f"127.0.0.1:{int(process.stdout.readline())}", pid=process.pid)
        finally:
            process.terminate()


def engine_limit(file: Path, size: Size, steps: int, *, seconds: float) -> tuple[int, float]:
    """Return the best batch of onnxruntime alone, on one thread of the server's core, and its steps per second."""
    rates = {rows: rows * steps / engine_seconds(file, size, rows, steps, seconds=seconds) for rows in BATCHES}
    rows = max(rates, key=lambda each: rates[each])
    return rows, rates[rows]


def engine_seconds(file: Path, size: Size, rows: int, steps: int, *, seconds: float) -> float:
    """Return the median seconds of one call of onnxruntime alone, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options)
    x = np.random.default_rng(0).normal(size=(rows, steps, size.features)).astype(np.float32)
    feed = {"x": x, "lengths": np.full(rows, steps, np.int64)}
    for given in session.get_inputs():
        if given.name == "state":
            feed["state"] = np.zeros((rows, given.shape[1]), np.float32)
    session.run(None, feed)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


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
