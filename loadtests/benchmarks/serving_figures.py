"""What is told of the server: figures, each the median of its turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtests.benchmarks.serving_measuring import Run

MILLISECONDS = 1e3
GAIN = "native / grpcio"
"""Stands for a front where a figure is the ratio of both."""

Verdict = Literal["met", "missed", "no target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, the median of the turns.

    Attributes:
        workload: what was asked.
        front: of the server that was asked, `GAIN`, or empty where none was.
        measure: what was measured, with its unit.
        value: of it.
        lowest: of the turns.
        highest: of the turns.
        target: to reach, None if it is told only.
        at_least: whether more is better.
    """

    workload: str
    front: str = ""
    measure: str
    value: float
    lowest: float
    highest: float
    target: float | None = None
    at_least: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the target was met."""
        if self.target is None:
            return "no target"
        return "met" if (self.value >= self.target) is self.at_least or self.value == self.target else "missed"


def latencies(workload: str, runs: Mapping[str, Sequence[Run]], *, cpu_target: float | None = None) -> list[Figure]:
    """Return what every workload tells of its runs by front: rate, latencies, CPU, how full its engine calls were."""

    def values(of: Callable[[Run], float]) -> dict[str, list[float]]:
        return {front: [of(run) for run in mine] for front, mine in runs.items()}

    figures = by_front(workload, "requests/s", values(lambda run: run.rate))
    for percent in (50, 99, 99.9, 100):
        word = "max" if percent == 100 else f"p{percent:g}"
        times = {front: [run.percentile(percent) * MILLISECONDS for run in mine] for front, mine in runs.items()}
        figures += by_front(workload, f"{word}, ms", times)
    cpu = values(lambda run: run.cpu_per_request * 1e6)
    figures += by_front(workload, "CPU per request, us", cpu, target=cpu_target, at_least=False)
    figures += by_front(workload, "rows per engine call", values(lambda run: run.rows_per_call))
    figures += by_front(workload, "padding efficiency", values(lambda run: run.padding_efficiency))
    return figures


def by_front(  # noqa: PLR0913  a sentence of keywords
    workload: str,
    measure: str,
    values: Mapping[str, Sequence[float]],
    *,
    target: float | None = None,
    at_least: bool = True,
    for_all: bool = False,
) -> list[Figure]:
    """Return the medians of a measure, and what the first front gains over the second.

    Args:
        workload: what was asked.
        measure: what was measured, with its unit.
        values: turns of each front, taken in the same rounds.
        target: to reach.
        at_least: whether more is better.
        for_all: whether all fronts are held to the target, and not the first alone.
    """
    first = next(iter(values))
    figures = [
        figure(
            workload,
            measure,
            turns,
            front=front,
            target=target if for_all or front == first else None,
            at_least=at_least,
        )
        for front, turns in values.items()
    ]
    if len(values) == 2 and min(map(min, values.values())) > 0:
        gains = [mine / other for mine, other in zip(*values.values(), strict=True)]
        figures.append(figure(workload, measure, gains, front=GAIN))
    return figures


def figure(  # noqa: PLR0913  a sentence of keywords
    workload: str,
    measure: str,
    values: Sequence[float],
    *,
    front: str = "",
    target: float | None = None,
    at_least: bool = True,
) -> Figure:
    """Return the median of a measure over its turns."""
    return Figure(
        workload=workload,
        front=front,
        measure=measure,
        value=float(np.median(values)),
        lowest=min(values),
        highest=max(values),
        target=target,
        at_least=at_least,
    )
