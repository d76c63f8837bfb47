"""What becomes of requests with a deadline when more come than can be served."""

from dataclasses import dataclass

import numpy as np

from loadtests.benchmarks.serving_figures import MILLISECONDS
from loadtests.benchmarks.serving_measuring import Job
from loadtests.benchmarks.serving_models import MEDIUM, REQUESTS, TINY, WIDE, Size, lengths_of
from loadtests.benchmarks.serving_workloads import Bench

DEADLINES = 3.0
"""Of a request, over what the median one takes at the peak."""
OFFERED = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What became of an offered load; rates are requests per second."""

    model: str
    offered_over_peak: float
    offered: float
    goodput: float
    goodput_over_peak: float
    refused: float
    p99_ms: float
    deadline_ms: float


def overload(bench: Bench) -> list[Overload]:
    """Requests with a deadline, at rates that do not care for the answers.

    For a tiny model, where refusing a request costs most of what answering it does, for one of the usual size, where it
    costs a good part of that, and for a wide one, where it costs next to nothing.
    """
    return [*_overload(bench, "tiny", TINY), *_overload(bench, "medium", MEDIUM), *_overload(bench, "wide", WIDE)]


def _overload(bench: Bench, model: str, size: Size) -> list[Overload]:
    lengths = lengths_of(REQUESTS, outliers=False)
    closed = bench.closed(model, size, lengths)
    closed()
    at_peak = closed()
    peak, deadline = at_peak.rate, DEADLINES * at_peak.percentile(50)
    messages = bench.messages(model, size, lengths)
    points = []
    for factor in OFFERED:
        rate = factor * peak
        gaps = np.random.default_rng(int(factor * 10)).exponential(1 / rate, int(rate * bench.seconds) + 1)
        job = Job(messages=messages, arrivals=np.cumsum(gaps).tolist(), timeout_seconds=deadline)
        run = bench.load(job, model)
        in_time = run.answered & (run.latency <= deadline)
        goodput = float(in_time.sum() / run.seconds)
        points.append(
            Overload(
                model=f"{size.hidden} wide",
                offered_over_peak=factor,
                offered=rate,
                goodput=goodput,
                goodput_over_peak=goodput / peak,
                refused=float((~run.answered).sum() / run.seconds),
                p99_ms=run.percentile(99) * MILLISECONDS,
                deadline_ms=deadline * MILLISECONDS,
            )
        )
    return points
