"""A run that is over: what was sent, what came of it, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.figures import Figures, figures_of, windows_of
from loadtests.traffic.options import Options
from loadtests.traffic.pages import Page
from loadtests.traffic.plan import Choice
from loadtests.traffic.records import NOT_SENT, Records
from loadtests.traffic.served import ServedModel
from loadtests.traffic.slo import Verdict, judge

LAG_SECONDS = 0.01
"""A p99 of the lag beyond it makes latencies the load generator's as much as the server's."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What there is to report.

    Attributes:
        options: of the run.
        address: of the server.
        models: that were asked.
        choices: of each sample.
        planned: when each request of the plan was due, float64[n]; None in a closed loop, which has none.
        begun: requests that were due until the run ended, as the processes that send have counted.
        records: of those that are over, in the order of when they were due.
        seconds: how long requests were due for.
        pages: of the server's metrics.
        processes: that sent.
        stopped: whether it was ended before its time.
    """

    options: Options
    address: str
    models: Sequence[ServedModel]
    choices: Sequence[Choice]
    planned: NDArray[np.float64] | None
    begun: int
    records: Records
    seconds: float
    pages: Sequence[Page]
    processes: int
    stopped: bool

    @property
    def moments(self) -> NDArray[np.float64]:
        """When requests were due."""
        moments: NDArray[np.float64] = self.records["due"] if self.planned is None else self.planned
        return moments

    @property
    def due(self) -> int:
        """How many requests something must have become of."""
        return self.begun if self.planned is None else len(self.planned)

    @cached_property
    def whole(self) -> Figures:
        """Figures of the run."""
        return figures_of(self.records, due=self.due, seconds=self.seconds, deadline=self.options.deadline)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the objectives say."""
        width = self.options.objectives.window_seconds
        windows = [] if width is None else self.windows(width)
        return judge(self.options.objectives, self.whole, windows)

    @property
    def passed(self) -> bool:
        """Whether all objectives are kept, by a run that was not stopped."""
        return not self.stopped and all(verdict.kept for verdict in self.verdicts)

    def windows(self, width: float) -> list[Figures]:
        """Return the figures of stretches of so many seconds."""
        return windows_of(self.records, self.moments, width=width, seconds=self.seconds, deadline=self.options.deadline)

    def of_model(self, name: str) -> Figures:
        """Return the figures of one model's requests."""
        mine = np.array([choice.model == name for choice in self.choices])
        records = self.records[mine[self.records["sample"]]]
        return figures_of(records, due=len(records), seconds=self.seconds, deadline=self.options.deadline)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the figures must know."""
        told = []
        if self.stopped:
            told.append(f"The run was stopped after {self.seconds:.0f} s; it proves nothing.")
        if self.whole.lost:
            told.append(f"{self.whole.lost} requests are lost: no process told what became of them.")
        unsent = int((self.records["status"] == NOT_SENT).sum())
        if unsent:
            told.append(
                f"{unsent} requests were never sent, because {self.options.outstanding} others were out "
                "(--outstanding); they count as errors."
            )
        if not self.options.open:
            told.append(
                "A closed loop sends less while the server is slow, so its percentiles leave out what callers of an "
                "open loop would have waited (coordinated omission)."
            )
        elif self.whole.lag_p99 > LAG_SECONDS:
            told.append(
                f"The load generator was late: {self.whole.lag_p99 * 1e3:.1f} ms at p99, which is in the latencies. "
                "Send from more processes (--processes), from cores that the server does not use."
            )
        told += [
            f"Answers of '{model.name}' were not compared: {model.unchecked}."
            for model in self.models
            if model.unchecked
        ]
        if not self.pages:
            told.append(
                "The server's metrics could not be read (--metrics-url), so its occupancy and backlog are missing."
            )
        return told
