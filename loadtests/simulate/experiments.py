"""Runs the cases of all questions, several at a time."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from loadtests.simulate.fleet import simulate
from loadtests.simulate.questions import Case
from loadtests.simulate.requests import Outcome
from loadtests.simulate.results import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run gave.

    Attributes:
        question: see `Case`.
        setting: see `Case`.
        requests: that counted.
        good_share: of them, answered in time.
        goodput: answers in time per second.
        p50: seconds.
        p99: seconds, of those in time.
        refused_share: for load, in the end.
        unavailable_share: because a replica died.
        amplification: attempts over requests.
        replica_hours: from when each was asked for until it was gone.
        busy_share: of the replicas' cores.
        rows_per_call: of the engines.
        wall_seconds: that the simulation took.
        samples: of the fleet.
    """

    question: str
    setting: str
    requests: int
    good_share: float
    goodput: float
    p50: float
    p99: float
    refused_share: float
    unavailable_share: float
    amplification: float
    replica_hours: float
    busy_share: float
    rows_per_call: float
    wall_seconds: float
    samples: list[Sample]


def answer(case: Case) -> Answer:
    """Run a case."""
    began = time.perf_counter()
    result = simulate(case.scenario)
    return Answer(
        question=case.question,
        setting=case.setting,
        requests=result.sent,
        good_share=result.good_share,
        goodput=result.goodput,
        p50=result.percentile(50),
        p99=result.percentile(99),
        refused_share=result.refused_share,
        unavailable_share=result.outcomes[Outcome.UNAVAILABLE] / max(1, result.sent),
        amplification=result.amplification,
        replica_hours=result.replica_seconds / 3600,
        busy_share=result.busy_seconds / max(1e-9, result.replica_seconds),
        rows_per_call=result.rows_per_call,
        wall_seconds=time.perf_counter() - began,
        samples=result.samples,
    )


def answers(cases: Sequence[Case], *, processes: int) -> Iterator[Answer]:
    """Run cases, some at a time, each in one process; yields them in their order."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(answer, cases)
