"""How many arrivals a second, over time; and random arrivals of that rate. Pure.

An open loop draws arrivals of a profile; a closed loop reads it as a number of callers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.errors import TrafficError

Seconds = NDArray[np.float64]
DAY_CORNERS = 96
"""Of a day's curve: one for each quarter of an hour."""
MOST_RATE = 100_000.0
FORMS = "steady:RATE, ramp:FROM,TO, steps:RATE,RATE,..., spike:BASE,PEAK[,SECONDS] or diurnal:NIGHT,DAY"


@dataclass(frozen=True, slots=True)
class Profile:
    """A rate that goes in straight lines from corner to corner.

    Attributes:
        times: of the corners, in seconds, ascending from 0; two at one time are a jump.
        rates: per second, at each corner.
    """

    times: tuple[float, ...]
    rates: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.times[-1]

    @property
    def expected(self) -> float:
        """Arrivals on average: the integral of the rate."""
        return float(self._reached()[-1])

    @property
    def highest(self) -> float:
        """The largest rate, per second."""
        return max(self.rates)

    def rate_at(self, second: float) -> float:
        """Return the rate at a moment; at a jump, the later one."""
        after = int(np.searchsorted(self.times, second, side="right"))
        if after == len(self.times):
            return self.rates[-1]
        (t0, t1), (r0, r1) = self.times[after - 1 : after + 1], self.rates[after - 1 : after + 1]
        return r0 + (r1 - r0) * (second - t0) / (t1 - t0)

    def moments(self, counts: Seconds) -> Seconds:
        """Return when so many arrivals are expected to have come.

        Args:
            counts: float64[n] from 0 to below `expected`.
        """
        reached = self._reached()
        part = np.clip(np.searchsorted(reached, counts, side="right") - 1, 0, len(reached) - 2)
        times, rates = np.array(self.times), np.array(self.rates)
        left, r0 = counts - reached[part], rates[part]
        length = times[part + 1] - times[part]
        slope = (rates[part + 1] - r0) / np.where(length > 0, length, 1.0)
        # The root of r0 x + slope x^2 / 2 = left, in the form that neither slope = 0 nor r0 = 0 breaks.
        below = r0 + np.sqrt(np.maximum(r0 * r0 + 2 * slope * left, 0.0))
        within = np.divide(2 * left, below, out=np.zeros_like(left), where=below > 0)
        moments: Seconds = times[part] + np.minimum(within, length)
        return moments

    def _reached(self) -> Seconds:
        times, rates = np.array(self.times), np.array(self.rates)
        return np.concatenate([[0.0], np.cumsum(np.diff(times) * (rates[1:] + rates[:-1]) / 2)])


def poisson(profile: Profile, rng: np.random.Generator) -> Seconds:
    """Draw the arrivals of an inhomogeneous Poisson process: ascending seconds, float64[n].

    Source: Cinlar, "Introduction to Stochastic Processes" (1975), section 4.7: the moments at which the expected number
    passes the arrivals of a process of rate 1.
    """
    expected = profile.expected
    reached = np.zeros(0)
    while not len(reached) or reached[-1] < expected:
        more = rng.exponential(size=int(expected + 10 * np.sqrt(expected) + 10))
        reached = np.concatenate([reached, np.cumsum(more) + (reached[-1] if len(reached) else 0.0)])
    return profile.moments(reached[reached < expected])


def read_profile(text: str, seconds: float) -> Profile:
    """Return the profile that a command line means, `FORMS`, stretched over so many seconds.

    Raises:
        TrafficError: it has another form, or a rate that is none.
    """
    name, colon, given = text.partition(":")
    make = _SHAPES.get(name)
    if not colon or make is None:
        raise TrafficError(f"--shape {text}: unknown; expected {FORMS}")
    try:
        numbers = [float(number) for number in given.split(",")]
    except ValueError:
        raise TrafficError(f"--shape {text}: '{given}' is no list of numbers; expected {FORMS}") from None
    if not all(0 <= number <= MOST_RATE for number in numbers):
        raise TrafficError(f"--shape {text}: expected numbers from 0 to {MOST_RATE:g}")
    try:
        profile = make(seconds, *numbers)
    except TypeError:
        raise TrafficError(f"--shape {text}: {len(numbers)} numbers do not fit '{name}'; expected {FORMS}") from None
    if profile.expected <= 0:
        raise TrafficError(f"--shape {text}: no arrival is expected in {seconds:g} s; expected a rate above 0")
    return profile


def _steady(seconds: float, rate: float) -> Profile:
    return Profile((0.0, seconds), (rate, rate))


def _ramp(seconds: float, first: float, last: float) -> Profile:
    return Profile((0.0, seconds), (first, last))


def _steps(seconds: float, *rates: float) -> Profile:
    edges = np.linspace(0.0, seconds, len(rates) + 1).tolist()
    times = tuple(time for pair in pairwise(edges) for time in pair)
    return Profile(times, tuple(rate for each in rates for rate in (each, each)))


def _spike(seconds: float, base: float, peak: float, width: float | None = None) -> Profile:
    width = seconds / 10 if width is None else width
    if not 0 < width < seconds:
        raise TrafficError(f"a spike of {width:g} s does not fit into {seconds:g} s; give it fewer seconds")
    begin, end = (seconds - width) / 2, (seconds + width) / 2
    return Profile((0.0, begin, begin, end, end, seconds), (base, base, peak, peak, base, base))


def _diurnal(seconds: float, night: float, day: float) -> Profile:
    turns = np.linspace(0.0, 1.0, DAY_CORNERS + 1)
    rates = night + (day - night) * (1 - np.cos(2 * np.pi * turns)) / 2
    return Profile(tuple((turns * seconds).tolist()), tuple(rates.tolist()))


_SHAPES: dict[str, Callable[..., Profile]] = {
    "steady": _steady,
    "ramp": _ramp,
    "steps": _steps,
    "spike": _spike,
    "diurnal": _diurnal,
}
