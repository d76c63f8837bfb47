"""Time of one run, of several forms of a model in turns, on this machine, and what this machine is."""

import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.runtime import Row, Runtime

BATCHES = (1, 8, 32)
MIXED_ROWS = 32
REPEATS = 15
BUDGET_SECONDS = 4.0
"""After this long a batch size has been timed often enough, whatever `REPEATS` says; at least three runs each."""
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median seconds of one run on one thread, the forms taking turns.

    Attributes:
        rows: of the batch.
        steps: of its longest row.
        mixed: its rows have lengths of 1 to `steps`; else all have `steps`.
        seconds: by the form's name; FP32's is "fp32".
    """

    rows: int
    steps: int
    mixed: bool
    seconds: Mapping[str, float]

    @property
    def name(self) -> str:
        """What its figures are called."""
        return "mixed" if self.mixed else f"batch_{self.rows}"

    def speedup(self, form: str, over: str = "fp32") -> float:
        """Return how many times faster one form is than another."""
        return self.seconds[over] / self.seconds[form]


def compare_latency(runtimes: Mapping[str, Runtime], rows: Sequence[Row], *, mixed: bool = False) -> list[Latency]:
    """Time the forms of a model on batches of 1, 8 and 32 rows of the median length.

    Args:
        runtimes: by form; "fp32" among them.
        rows: of many lengths.
        mixed: also on a batch of 32 rows whose lengths are spread evenly from 1 to the median.
    """
    median = sorted(rows, key=lambda row: row.steps)[len(rows) // 2]
    latencies = [_compare(runtimes, [median] * batch, mixed=False) for batch in BATCHES]
    if mixed:
        tensors = runtimes["fp32"].model.inputs
        lengths = [round(1 + (median.steps - 1) * place / (MIXED_ROWS - 1)) for place in range(MIXED_ROWS)]
        latencies.append(_compare(runtimes, [median.part(0, steps, tensors) for steps in lengths], mixed=True))
    return latencies


def _compare(runtimes: Mapping[str, Runtime], rows: Sequence[Row], *, mixed: bool) -> Latency:
    feed = runtimes["fp32"].feed(rows)
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for runtime in runtimes.values():
        runtime.run(feed)
    started = time.perf_counter()
    for repeat in range(REPEATS):
        if repeat >= 3 and time.perf_counter() - started > BUDGET_SECONDS:
            break
        for name, runtime in runtimes.items():
            before = time.perf_counter()
            runtime.run(feed)
            seconds[name].append(time.perf_counter() - before)
    return Latency(
        rows=len(rows),
        steps=max(row.steps for row in rows),
        mixed=mixed,
        seconds={name: statistics.median(times) for name, times in seconds.items()},
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
