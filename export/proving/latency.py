"""Time of one run, FP32 against a smaller version, on this machine, and what this machine is."""

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.runtime import Row, Runtime

BATCHES = (1, 32)
REPEATS = 15
BUDGET_SECONDS = 4.0
"""After this long a batch size has been timed often enough, whatever `REPEATS` says; at least three runs each."""
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median seconds of one run on one thread, the two models taking turns."""

    rows: int
    steps: int
    fp32_seconds: float
    smaller_seconds: float

    @property
    def speedup(self) -> float:
        """How many times faster the smaller version is."""
        return self.fp32_seconds / self.smaller_seconds


def compare_latency(fp32: Runtime, smaller: Runtime, rows: Sequence[Row]) -> list[Latency]:
    """Time both models on batches of 1 and 32 rows of the median length."""
    median = sorted(rows, key=lambda row: row.steps)[len(rows) // 2]
    return [_compare(fp32, smaller, median, batch) for batch in BATCHES]


def _compare(fp32: Runtime, smaller: Runtime, row: Row, batch: int) -> Latency:
    feed = fp32.feed([row] * batch)
    seconds: dict[Runtime, list[float]] = {fp32: [], smaller: []}
    for runtime in seconds:
        runtime.run(feed)
    started = time.perf_counter()
    for repeat in range(REPEATS):
        if repeat >= 3 and time.perf_counter() - started > BUDGET_SECONDS:
            break
        for runtime, times in seconds.items():
            before = time.perf_counter()
            runtime.run(feed)
            times.append(time.perf_counter() - before)
    return Latency(
        rows=batch,
        steps=row.steps,
        fp32_seconds=statistics.median(seconds[fp32]),
        smaller_seconds=statistics.median(seconds[smaller]),
    )


def describe_cpu() -> str:
    """Return the processor's name and which of the instructions that INT8 products use it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = set(fields.get("flags", fields.get("Features", "")).split())
    flags = [flag for flag in FLAGS if flag in has]
    return f"{fields.get('model name', platform.machine())} ({', '.join(flags) or 'none of ' + ', '.join(FLAGS)})"
