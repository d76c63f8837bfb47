"""What the server's process takes, second by second, as the kernel and its own metrics tell it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

SECONDS_PER_HOUR = 3600
MIB = 2**20
MALLOC = ("Anonymous", "Private_Dirty", "Rss")
"""Of smaps_rollup: heap and stacks, what only this process has, and all that is in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One second of a server under load; memory in MiB, times in seconds."""

    seconds: float
    rss_mib: float
    anonymous_mib: float
    threads: int
    descriptors: int
    answered_per_second: float
    p50: float
    p99: float


def memory_mib(pid: int) -> dict[str, float]:
    """Return MiB of a process by the names of `MALLOC`. Source: proc_pid_smaps(5), smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines if ":" in line and line.endswith("kB"))
    return {name: int(sizes[name].split()[0]) / 1024 for name in MALLOC}


def take_sample(pid: int, seconds: float, latencies: Sequence[float], over: float) -> Sample:
    """Return what a process takes now.

    Args:
        pid: of the process.
        seconds: since the load began.
        latencies: of answers since the last sample, in seconds.
        over: seconds since the last sample.
    """
    memory = memory_mib(pid)
    return Sample(
        seconds=seconds,
        rss_mib=memory["Rss"],
        anonymous_mib=memory["Anonymous"],
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        answered_per_second=len(latencies) / over,
        p50=float(np.percentile(latencies, 50)) if latencies else float("nan"),
        p99=float(np.percentile(latencies, 99)) if latencies else float("nan"),
    )


def slope_per_hour(samples: Sequence[Sample], what: str) -> float:
    """Return how fast a figure grows, per hour: least squares over the second half, when caches are warm."""
    half = samples[len(samples) // 2 :]
    times = np.array([sample.seconds for sample in half])
    values = np.array([asdict(sample)[what] for sample in half])
    finite = np.isfinite(values)
    if finite.sum() < 2:
        return float("nan")
    return float(np.polyfit(times[finite], values[finite], 1)[0]) * SECONDS_PER_HOUR
