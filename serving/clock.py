"""The one monotonic clock of the server; tests hand in their own."""

import time
from typing import Protocol

NANOSECONDS_PER_SECOND = 1_000_000_000


class Clock(Protocol):
    """Anything that tells a monotonic time."""

    def now_ns(self) -> int:
        """Return nanoseconds since an arbitrary fixed moment; never goes back."""


class SystemClock:
    """The operating system's monotonic clock."""

    def now_ns(self) -> int:
        """Return nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()
