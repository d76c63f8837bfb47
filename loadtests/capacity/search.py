"""The highest rate that keeps the objectives: bracketed by doubling, then halved by ratios. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

HIGHEST = 100_000.0
LOWEST = 0.5
"""Rates (requests/s) beyond which nothing is tried."""
PATIENCE = 4
"""Ever lower rates at which the load generator is late: then the machine is too busy to measure anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What became of one rate: medians of its runs.

    Attributes:
        rate: requests a second that were to be sent, on average.
        kept: whether the objectives were kept.
        limited: whether the load generator could not send at its times, so that nothing is known of the server.
        p50, p99: seconds from when requests were due to their answers; NaN without any.
        lag_p99: seconds from when requests were due until they were sent.
        missed: the first objective that was missed, in words; empty if all were kept.
    """

    rate: float
    kept: bool
    limited: bool
    p50: float
    p99: float
    lag_p99: float
    missed: str


@dataclass(slots=True)
class Found:
    """What a search came to.

    Attributes:
        points: every rate that was tried, in that order.
        low: the best of those that kept the objectives below the first that did not; None if none did.
        high: the least of those above it that did not; None if all did.
    """

    points: list[Point] = field(default_factory=list)
    low: Point | None = None
    high: Point | None = None

    @property
    def capacity(self) -> float | None:
        """The rate that was looked for, requests/s; None if it cannot be told."""
        return None if self.refusal or self.low is None else self.low.rate

    @property
    def refusal(self) -> str:
        """Why it cannot be told; empty if it can."""
        if self.high is None:
            return f"the objectives are kept up to {HIGHEST:g} requests/s, and no more are tried"
        if self.high.limited:
            kept = "nothing is known" if self.low is None else f"at least {self.low.rate:.0f} requests/s"
            return (
                f"{kept}: at {self.high.rate:.0f} requests/s the load generator could not keep its times (lag "
                f"{self.high.lag_p99 * 1e3:.1f} ms at p99), so it, not the server, was measured; is the machine busy?"
            )
        if self.low is None:
            return f"the objectives are missed even at {self.high.rate:.1f} requests/s: {self.high.missed}"
        return ""


def search(measure: Callable[[float], Point], *, first: float, precision: float) -> Found:
    """Find the highest rate that keeps the objectives.

    Args:
        measure: tries a rate.
        first: rate to begin with.
        precision: how much more than the rate that is found a rate may be that is known to miss, as a ratio less one.
    """
    found = Found()
    rate = min(max(first, LOWEST), HIGHEST)
    while True:
        point = measure(rate)
        found.points.append(point)
        if point.kept and not point.limited:
            found.low = point
        else:
            found.high = point
        match found.low, found.high:
            case None, Point(rate=high):
                rate = high / 2
                busy = len(found.points) >= PATIENCE and all(point.limited for point in found.points[-PATIENCE:])
                if rate < LOWEST or busy:
                    return found
            case Point(rate=low), None:
                if low >= HIGHEST:
                    return found
                rate = min(2 * low, HIGHEST)
            case Point(rate=low), Point(rate=high):
                if high <= low * (1 + precision):
                    return found
                rate = math.sqrt(low * high)
