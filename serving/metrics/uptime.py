"""How long the process has run, by a clock that nobody sets."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

START_FIELD = 22
"""When the process began, in the 1-based numbering of proc_pid_stat(5): clock ticks since boot."""


class Uptime(Collector):
    """The process's age, from its start and not from the first metric; absent where there is no `/proc`.

    Whoever divides by it needs it finer than what the time of day less `process_start_time_seconds` gives: that takes
    the time of boot as a whole second, and is off altogether once the clock has been set.
    """

    def __init__(self) -> None:
        self._started_seconds = _started_seconds()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return it."""
        if self._started_seconds is not None:
            yield GaugeMetricFamily(
                "lstm_uptime_seconds",
                "Since the process began, by a clock that nobody sets",
                value=time.clock_gettime(time.CLOCK_BOOTTIME) - self._started_seconds,
            )


def _started_seconds() -> float | None:
    """Return when the process began, in seconds since boot; None where the kernel does not tell."""
    try:
        stat = Path("/proc/self/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may hold any character.
    after_name = stat.rpartition(b")")[2].split()
    return int(after_name[START_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
