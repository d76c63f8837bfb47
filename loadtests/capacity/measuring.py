"""One rate, tried several times with the load generator in C, which costs a tenth of what a client in Python does."""

import os
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.capacity.search import Point
from loadtests.generator.program import read_result
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.figures import Figures, figures_of
from loadtests.traffic.profiles import Profile, poisson
from loadtests.traffic.records import OK, RECORD, UNCHECKED, Records
from loadtests.traffic.samples import Sample
from loadtests.traffic.slo import Objectives, judge

LENGTH_BYTES = 4
"""Before each message of the generator's file."""
PEAK_CALLERS, PEAK_SECONDS = 32, 2.0
LAG_SECONDS, LAG_SHARE = 0.001, 0.1
"""The p99 of the generator's lag may be this share of the p99 that is allowed, and this long in any case."""
PATIENCE_SECONDS = 10.0
THREADS_METRIC = "lstm_cpu_threads "


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How a rate is tried.

    Attributes:
        seconds: of a run that count.
        warm_up: seconds before them that do not.
        repeats: runs at most; as soon as more than half of them agree it is enough.
        seed: of the first run's arrivals; each other one has its own.
    """

    seconds: float
    warm_up: float
    repeats: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured, and with what.

    Attributes:
        port: of the server, on loopback.
        generator: the program.
        core: that the generator stays on; None: any.
        folder: for its files.
        objectives: that must be kept.
        deadline: of a request, in seconds.
        effort: how a rate is tried.
    """

    port: int
    generator: Path
    core: int | None
    folder: Path
    objectives: Objectives
    deadline: float
    effort: Effort

    @property
    def most_lag(self) -> float:
        """Seconds that the generator's lag may have at p99."""
        return max(LAG_SECONDS, LAG_SHARE * (self.objectives.p99_seconds or 0.0))

    def write(self, samples: Sequence[Sample]) -> None:
        """Write the requests that are sent in turn."""
        contents = [sample.request.SerializeToString() for sample in samples]
        frames = (len(content).to_bytes(LENGTH_BYTES, "little") + content for content in contents)
        (self.folder / "messages").write_bytes(b"".join(frames))

    def peak(self) -> float:
        """Return the answers a second that a closed loop gets.

        Raises:
            TrafficError: it gets none.
        """
        records = self._run("--callers", str(PEAK_CALLERS), "--seconds", str(PEAK_SECONDS))
        answered = int((records["status"] == OK).sum())
        if not answered:
            codes = sorted(set(records["status"].tolist()))
            raise TrafficError(
                f"the server answers no request of {PEAK_CALLERS} callers; their gRPC statuses are {codes}"
            )
        return answered / float(records["ended"].max())

    def point(self, rate: float) -> Point:
        """Try a rate."""
        runs: list[tuple[Figures, str]] = []
        missed = 0
        while len(runs) < self.effort.repeats:
            figures = self._figures(rate, self.effort.seed + len(runs))
            first = next((verdict for verdict in judge(self.objectives, figures) if not verdict.kept), None)
            runs.append((figures, "" if first is None else f"{first.objective} {first.measured:.4g}"))
            missed += first is not None
            if max(missed, len(runs) - missed) * 2 > self.effort.repeats:
                break
        kept = missed * 2 <= len(runs)
        lag, p50, p99 = (
            float(np.median([getattr(figures, name) for figures, _ in runs])) for name in ("lag_p99", "p50", "p99")
        )
        return Point(
            rate=rate,
            kept=kept,
            limited=lag > self.most_lag,
            p50=p50,
            p99=p99,
            lag_p99=lag,
            missed="" if kept else next(words for _, words in runs if words),
        )

    def _figures(self, rate: float, seed: int) -> Figures:
        effort = self.effort
        whole = effort.warm_up + effort.seconds
        arrivals = poisson(Profile((0.0, whole), (rate, rate)), np.random.default_rng(seed))
        if not (arrivals >= effort.warm_up).any():
            arrivals = np.append(arrivals, whole)
        (self.folder / "arrivals").write_bytes(arrivals.astype("<f8").tobytes())
        ended = self._run(
            *("--arrivals", str(self.folder / "arrivals"), "--timeout-us", str(round(self.deadline * 1e6))),
            *("--patience", str(self.deadline + PATIENCE_SECONDS)),
        )
        records = _records(ended[ended["meant"] >= effort.warm_up])
        due = int((arrivals >= effort.warm_up).sum())
        return figures_of(records, due=due, seconds=effort.seconds, deadline=self.deadline)

    def _run(self, *flags: str) -> NDArray[np.void]:
        result = self.folder / "result"
        pinned = [] if self.core is None else ["taskset", "-c", str(self.core)]
        files = ["--messages", str(self.folder / "messages"), "--result", str(result)]
        command = [*pinned, str(self.generator), "--port", str(self.port), *files, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own program
        if done.returncode:
            raise TrafficError(done.stderr.strip() or f"the load generator ended with code {done.returncode}")
        return read_result(result)


def _records(ended: NDArray[np.void]) -> Records:
    records = np.zeros(len(ended), RECORD)
    records["due"], records["sent"], records["ended"] = ended["meant"], ended["sent"], ended["ended"]
    records["sample"], records["status"], records["attempts"] = ended["index"], ended["status"], 1
    records["verdict"] = UNCHECKED
    return records


def threads_of(metrics_url: str) -> int | None:
    """Return the threads of one engine call, as the server's metrics tell it; None if they do not."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=10) as page:  # noqa: S310  a server's metrics
            lines = page.read().decode().splitlines()
        return next((int(float(line.split()[1])) for line in lines if line.startswith(THREADS_METRIC)), None)
    except (OSError, ValueError):
        return None


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder for the generator and its files."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Keep this thread, and what it starts, to these cores inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
