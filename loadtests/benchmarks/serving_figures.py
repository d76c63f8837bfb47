"""What is told of the server: figures, each the median of its turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtests.benchmarks.serving_measuring import Run

MILLISECONDS = 1e3

Verdict = Literal["met", "missed", "no target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, the median of the turns.

    Attributes:
        workload: what was asked.
        measure: what was measured, with its unit.
        value: of it.
        lowest: of the turns.
        highest: of the turns.
        target: to reach, None if it is told only.
        at_least: whether more is better.
    """

    workload: str
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


def latencies(workload: str, runs: Sequence[Run]) -> list[Figure]:
    """Return what every workload tells of its runs: rate, latencies, CPU, and how full its engine calls were."""
    figures = [figure(workload, "requests/s", [run.rate for run in runs])]
    for percent in (50, 99, 99.9, 100):
        word = "max" if percent == 100 else f"p{percent:g}"
        figures.append(figure(workload, f"{word}, ms", [run.percentile(percent) * MILLISECONDS for run in runs]))
    figures.append(figure(workload, "CPU per request, us", [run.cpu_per_request * 1e6 for run in runs]))
    figures.append(figure(workload, "rows per engine call", [run.rows_per_call for run in runs]))
    figures.append(figure(workload, "padding efficiency", [run.padding_efficiency for run in runs]))
    return figures


def figure(
    workload: str, measure: str, values: Sequence[float], *, target: float | None = None, at_least: bool = True
) -> Figure:
    """Return the median of a measure over its turns."""
    return Figure(
        workload=workload,
        measure=measure,
        value=float(np.median(values)),
        lowest=min(values),
        highest=max(values),
        target=target,
        at_least=at_least,
    )
