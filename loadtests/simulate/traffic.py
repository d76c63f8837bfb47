"""Requests that come whatever becomes of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtests.simulate.events import NANOSECONDS
from loadtests.simulate.requests import Request
from loadtests.simulate.scenario import Lengths, Traffic
from serving.batching import NEVER_NS

CHUNK = 8192
"""Requests that are drawn at a time."""


def rate_at(traffic: Traffic, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the requests per second at some moments of the run.

    Args:
        traffic: with its day, which begins in the trough, and its surges.
        seconds: since the start.
    """
    rate = traffic.rate * (1 - traffic.swing * np.cos(2 * np.pi * seconds / traffic.day))
    for surge in traffic.surges:
        inside = (seconds >= surge.at) & (seconds < surge.at + surge.seconds)
        rate = np.where(inside, rate * surge.factor, rate)
    return rate


def draw_lengths(lengths: Lengths, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw so many lengths, in steps."""
    drawn = np.exp(rng.normal(np.log(lengths.median), lengths.spread, count))
    return np.clip(drawn, lengths.shortest, lengths.longest).astype(np.int64)


def requests(traffic: Traffic, seconds: float, *, proxies: int, seed: int) -> Iterator[Request]:
    """Yield the requests of a run in the order of their time.

    Arrivals are a Poisson process whose rate changes with time, by thinning (Lewis and Shedler, 1979).

    Args:
        traffic: what comes.
        seconds: for how long.
        proxies: one of which each request takes, at random.
        seed: of the arrivals.
    """
    rng = np.random.default_rng(seed)
    most = traffic.rate * (1 + traffic.swing) * float(np.prod([max(1.0, surge.factor) for surge in traffic.surges]))
    patience_ns = [NEVER_NS if each.seconds is None else round(each.seconds * NANOSECONDS) for each in traffic.patience]
    shares = [each.share for each in traffic.patience]
    at, number = 0.0, 0
    while at < seconds:
        times = at + np.cumsum(rng.exponential(1 / most, CHUNK))
        at = float(times[-1])
        times = times[(rng.random(CHUNK) * most < rate_at(traffic, times)) & (times < seconds)]
        steps = draw_lengths(traffic.lengths, len(times), rng)
        kinds = rng.choice(len(shares), len(times), p=shares)
        proxy = rng.integers(proxies, size=len(times))
        sent_ns = np.rint(times * NANOSECONDS).astype(np.int64)
        for drawn in zip(steps.tolist(), sent_ns.tolist(), kinds.tolist(), proxy.tolist(), strict=True):
            yield Request(number, drawn[0], drawn[1], patience_ns[drawn[2]], drawn[3])
            number += 1
