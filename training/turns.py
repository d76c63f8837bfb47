"""Timings of exported models that take turns, so that what disturbs the machine disturbs all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from export.runtime import Row, Runtime

LEAST_ROUNDS = 3
"""Runs of each model, however long they take."""

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of many measurements and the quartiles around it, all in their unit."""

    median: float
    p25: float
    p75: float


def spread_of(values: Seconds) -> Spread:
    """Return the quartiles of float64[measurements], at least one."""
    p25, median, p75 = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Spread(median=median, p25=p25, p75=p75)


def take_turns(
    runtimes: Mapping[str, Runtime], row: Row, *, batch_rows: int, rounds: int, budget_seconds: float
) -> dict[str, Seconds]:
    """Time runs of all models on a batch of one row repeated; every round runs each model once.

    Args:
        runtimes: models with the same inputs, by name.
        row: what is repeated; no step is padding.
        batch_rows: how often.
        rounds: how many to time after one that is not.
        budget_seconds: after this long no further round begins, once there are three.

    Returns:
        float64[rounds] by name: seconds of the model's run in each round.

    Raises:
        ExportError: a model fails on the row.
    """
    calls = {name: partial(runtime.run, runtime.feed([row] * batch_rows)) for name, runtime in runtimes.items()}
    return time_in_turns(calls, rounds=rounds, budget_seconds=budget_seconds)


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, budget_seconds: float
) -> dict[str, Seconds]:
    """Time calls; every round makes each once, after one round that is not timed.

    Returns:
        float64[rounds] by name: seconds of the call in each round.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    started = time.perf_counter()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.perf_counter() - started > budget_seconds:
            break
        # Every second round goes the other way: what a call finds in the caches depends on who ran before it.
        for name in order if number % 2 == 0 else reversed(order):
            before = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - before)
    return {name: np.array(times) for name, times in seconds.items()}
