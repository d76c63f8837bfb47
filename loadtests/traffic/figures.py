"""What a run comes to: counts, shares, rates and percentiles. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.records import (
    OK,
    RESOURCE_EXHAUSTED,
    RIGHT,
    STATUS_NAMES,
    UNCHECKED,
    WRONG,
    Records,
    latencies,
)

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a run, or of a stretch of it.

    Attributes:
        seconds: that requests were due in.
        due: requests that were to be sent.
        ended: requests that something is known of; the others are lost.
        answered: with OK.
        in_time: answered within their deadline, counted from when they were due, and not wrong.
        right: answers that were compared and agree.
        unchecked: answers that were compared with nothing.
        wrong: answers that were compared and differ.
        shed: refused for load (RESOURCE_EXHAUSTED).
        errors: all others that were not answered, those that were lost or never sent included.
        p50, p99, p999: seconds from when a request was due to its answer, of those answered; NaN without any.
        lag_p99: seconds from when a request was due until it was sent; NaN if none was.
    """

    seconds: float
    due: int
    ended: int
    answered: int
    in_time: int
    right: int
    unchecked: int
    wrong: int
    shed: int
    errors: int
    p50: float
    p99: float
    p999: float
    lag_p99: float

    @property
    def lost(self) -> int:
        """Requests that nothing is known of."""
        return self.due - self.ended

    @property
    def goodput_per_second(self) -> float:
        """Right answers within their deadline, per second."""
        return self.in_time / self.seconds

    @property
    def offered_per_second(self) -> float:
        """Requests that were to be sent, per second."""
        return self.due / self.seconds

    @property
    def error_share(self) -> float:
        """Errors over requests."""
        return self.errors / self.due if self.due else 0.0

    @property
    def shed_share(self) -> float:
        """Refusals for load over requests."""
        return self.shed / self.due if self.due else 0.0


def figures_of(records: Records, *, due: int, seconds: float, deadline: float) -> Figures:
    """Count and measure.

    Args:
        records: of requests that are over.
        due: how many there should be.
        seconds: that requests were due in.
        deadline: of a request, in seconds.
    """
    latency, answered = latencies(records), records["status"] == OK
    verdict = records["verdict"]
    in_time = answered & (latency <= deadline) & (verdict != WRONG)
    shed = int((records["status"] == RESOURCE_EXHAUSTED).sum())
    sent = records["attempts"] > 0
    p50, p99, p999 = (percentile(latency[answered], share) for share in (0.5, 0.99, 0.999))
    return Figures(
        seconds=seconds,
        due=due,
        ended=len(records),
        answered=int(answered.sum()),
        in_time=int(in_time.sum()),
        right=int((answered & (verdict == RIGHT)).sum()),
        unchecked=int((answered & (verdict == UNCHECKED)).sum()),
        wrong=int((answered & (verdict == WRONG)).sum()),
        shed=shed,
        errors=due - int(answered.sum()) - shed,
        p50=p50,
        p99=p99,
        p999=p999,
        lag_p99=percentile((records["sent"] - records["due"])[sent], 0.99),
    )


def windows_of(
    records: Records, moments: NDArray[np.float64], *, width: float, seconds: float, deadline: float
) -> list[Figures]:
    """Return the figures of one stretch after the other, by when requests were due.

    Args:
        records: of requests that are over.
        moments: when each request of the plan was due, float64[n].
        width: seconds of a stretch; a shorter rest at the end belongs to the last one.
        seconds: that requests were due in.
        deadline: of a request, in seconds.
    """
    count = max(1, int(seconds / width + 1e-9))
    edges = [number * width for number in range(count)]
    place_of_record = np.searchsorted(edges, records["due"], side="right") - 1
    due = np.bincount(np.searchsorted(edges, moments, side="right") - 1, minlength=count)
    spans = [width] * (count - 1) + [seconds - edges[-1]]
    return [
        figures_of(records[place_of_record == number], due=int(due[number]), seconds=spans[number], deadline=deadline)
        for number in range(count)
    ]


def percentile(values: NDArray[np.float64], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank), NaN of none.

    No value is made up between two, and of too few values a high percentile is the largest: never too good.
    """
    if not len(values):
        return NAN
    rank = max(0, math.ceil(share * len(values) - 1e-9) - 1)
    return float(np.partition(values, rank)[rank])


def outcomes_of(records: Records) -> Counter[tuple[str, str]]:
    """Count requests by status and reason."""
    pairs = zip(records["status"].tolist(), records["reason"].tolist(), strict=True)
    return Counter((STATUS_NAMES[status], reason.decode()) for status, reason in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Answers to sequences of `shortest` to `longest` steps, on average `mean`; percentiles in seconds."""

    shortest: int
    longest: int
    mean: float
    answered: int
    p50: float
    p99: float


def buckets_of(records: Records, steps: Sequence[int]) -> list[Bucket]:
    """Return latencies by length, in buckets that double; empty ones are left out.

    Args:
        records: of requests that are over.
        steps: of each sample.
    """
    answered = records[records["status"] == OK]
    lengths, latency = np.array(steps)[answered["sample"]], latencies(answered)
    buckets = []
    for power in np.unique(np.floor(np.log2(lengths))).astype(int).tolist():
        shortest, longest = 2**power, 2 ** (power + 1) - 1
        inside = (lengths >= shortest) & (lengths <= longest)
        buckets.append(
            Bucket(
                shortest=shortest,
                longest=longest,
                mean=float(lengths[inside].mean()),
                answered=int(inside.sum()),
                p50=percentile(latency[inside], 0.5),
                p99=percentile(latency[inside], 0.99),
            )
        )
    return buckets
