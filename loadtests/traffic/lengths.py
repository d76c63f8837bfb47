"""How long sequences are: distributions of steps, by their quantiles. Pure but for the file of a histogram."""

import csv
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.errors import TrafficError

Steps = NDArray[np.int64]
Quantiles = NDArray[np.float64]
Distribution = Callable[[Quantiles], Steps]
"""Takes quantiles, float64[n] inside 0 to 1, and returns the steps there, int64[n]."""
MOST_STEPS = 1_000_000
COLUMNS = ["steps", "count"]
FORMS = (
    "fixed:STEPS, uniform:SHORTEST,LONGEST, lognormal:MEDIAN,SPREAD[,SHORTEST,LONGEST] or histogram:FILE (CSV with the "
    "columns steps and count)"
)


def read_distribution(text: str) -> Distribution:
    """Return the distribution that a command line means: `FORMS`.

    Raises:
        TrafficError: it has another form, or a number of steps that is none.
    """
    name, colon, given = text.partition(":")
    if not colon or name not in {"histogram", *_NUMERIC}:
        raise TrafficError(f"--lengths {text}: unknown; expected {FORMS}")
    if name == "histogram":
        return _histogram(Path(given))
    try:
        return _NUMERIC[name](*(float(number) for number in given.split(",")))
    except (TypeError, ValueError) as error:
        why = str(error) if isinstance(error, _WrongNumberError) else f"expected {FORMS}"
        raise TrafficError(f"--lengths {text}: {why}") from None


def spread_evenly(distribution: Distribution, count: int) -> list[int]:
    """Return so many lengths that stand for the distribution: those at the middles of as many equal parts of it."""
    return [int(steps) for steps in distribution((np.arange(count) + 0.5) / count)]


class _WrongNumberError(ValueError):
    """The form is right and a number is not."""


def _whole(number: float, least: int = 1) -> int:
    if not (least <= number <= MOST_STEPS and number == int(number)):
        raise _WrongNumberError(f"{number:g} is no number of steps; expected a whole one from {least} to {MOST_STEPS}")
    return int(number)


def _fixed(steps: float) -> Distribution:
    exact = _whole(steps)
    return lambda quantiles: np.full(len(quantiles), exact)


def _uniform(shortest: float, longest: float) -> Distribution:
    low = _whole(shortest)
    high = _whole(longest, least=low)
    return lambda quantiles: low + (quantiles * (high - low + 1)).astype(np.int64)


def _lognormal(median: float, spread: float, shortest: float = 1, longest: float = MOST_STEPS) -> Distribution:
    low = _whole(shortest)
    high = _whole(longest, least=low)
    middle = _whole(median, least=low)
    if not 0 < spread <= 10:
        raise _WrongNumberError(
            f"a spread of {spread:g}; expected the standard deviation of the logarithm, above 0, at most 10"
        )
    normal = NormalDist(float(np.log(middle)), spread)

    def at(quantiles: Quantiles) -> Steps:
        drawn = np.exp([normal.inv_cdf(quantile) for quantile in quantiles.tolist()])
        return np.clip(np.rint(drawn), low, high).astype(np.int64)

    return at


def _histogram(path: Path) -> Distribution:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrafficError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows or rows[0] != COLUMNS:
        raise TrafficError(f"{path}: line 1 is {','.join(rows[0]) if rows else 'not there'}; expected steps,count")
    steps, counts = [], []
    for number, row in enumerate(rows[1:], 2):
        try:
            length, count = (float(field) for field in row)
            steps.append(_whole(length))
        except ValueError as error:
            why = str(error) if isinstance(error, _WrongNumberError) else "expected two numbers, steps and count"
            raise TrafficError(f"{path}: line {number} is {','.join(row)!r}: {why}") from None
        if not 0 <= count < float("inf"):
            raise TrafficError(f"{path}: line {number} has the count {count:g}; expected a number from 0")
        counts.append(count)
    total = sum(counts)
    if total <= 0:
        raise TrafficError(f"{path}: no count is above 0; expected at least one")
    order = np.argsort(steps, kind="stable")
    values, shares = np.array(steps)[order], np.cumsum(np.array(counts)[order]) / total

    def at(quantiles: Quantiles) -> Steps:
        found: Steps = values[np.minimum(np.searchsorted(shares, quantiles, side="right"), len(values) - 1)]
        return found

    return at


_NUMERIC: dict[str, Callable[..., Distribution]] = {"fixed": _fixed, "uniform": _uniform, "lognormal": _lognormal}
