"""What an engine call takes, with all that the runner does around it, on a core of its own.

In CPU time of the one thread that does it: what others do on the machine meanwhile is no part of it.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np

from loadtests.simulate.costs import EngineCost
from serving.batching import Batcher, CostModel, Stepwise
from serving.clock import SystemClock
from serving.engine.choice import EngineChoice
from serving.engine.turns import Turns
from serving.errors import ServingError
from serving.manifest import read_manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.runner import Runner
from serving.tensors import Arrays, Rows

ROWS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
STEPS = (2, 8, 16, 32, 64)
CHUNKS = 2
"""Calls of a request: the second one goes on from a state."""


@dataclass(frozen=True, slots=True)
class Call:
    """One shape and the seconds of one turn of the runner with it: polled, packed, run, scattered, told and learned."""

    rows: int
    steps: int
    seconds: float


class _Nobody:
    """Takes answers."""

    def answer(self, outputs: Arrays) -> None:
        """Drop them."""

    def fail(self, error: ServingError) -> None:
        """Let the measurement fail."""
        raise error


class EngineBench:
    """Runs turns of the real runner, engine and metrics, in this process."""

    def __init__(self, directory: Path, *, features: int) -> None:
        """Open a version's folder, of a stepwise model whose input is `x` float32[batch, time, features]."""
        self._manifest = read_manifest(directory)
        self._engine = EngineChoice("auto", "cpu").open(self._manifest, directory, threads=1)
        self._features = features
        self._rng = np.random.default_rng(0)
        metrics = ServerMetrics(cpu_threads=1, cpu_quota_cores=None, onnxruntime_version="", log_lines_lost=lambda: 0)
        self._metrics = metrics.of_model(self._manifest.name, "1")

    def turns(self, *, seconds: float) -> list[Call]:
        """Time turns of all shapes in random order, for so many seconds of each shape's share."""
        shapes = [(rows, steps) for rows in ROWS for steps in STEPS]
        random.Random(0).shuffle(shapes)  # noqa: S311  an order, no secret
        each = seconds / len(shapes)
        return [Call(rows, steps, took) for rows, steps in shapes for took in self._turns_of(rows, steps, each)]

    def _turns_of(self, rows: int, steps: int, seconds: float) -> list[float]:
        cost = CostModel()
        policy = Policy.model_validate({"max_batch_rows": rows, "max_queue_rows": 1024})
        batcher = Batcher(Stepwise(cost, tick_seconds=1.0, max_rows=rows, steps=steps), cost, max_queue_rows=1024)
        runner = Runner(
            manifest=self._manifest,
            policy=policy,
            engine=self._engine,
            batcher=batcher,
            turns=Turns(1),
            clock=SystemClock(),
            metrics=self._metrics,
        )
        x = self._rng.normal(size=(1, steps * CHUNKS, self._features)).astype(np.float32)
        lengths = np.array([steps * CHUNKS], np.int64)
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while len(taken) < CHUNKS * 2 or time.perf_counter() < end:
            for _ in range(rows):
                runner.put(Rows(inputs={"x": x}, lengths=lengths, time=steps * CHUNKS), _Nobody())
            for _ in range(CHUNKS):
                began = time.thread_time()
                runner.step()
                taken.append(time.thread_time() - began)
        return taken[CHUNKS:]


def cost_of(calls: Sequence[Call]) -> EngineCost:
    """Return the medians of all shapes as a table.

    The noise is that of single turns against the median of their shape, by its quartiles, which hiccups do not move.
    """
    by_shape = _by_shape(calls)
    spreads = []
    for seconds in by_shape.values():
        low, high = np.percentile(np.log(seconds), (25, 75))
        spreads.append(float(high - low) / 1.349)  # of a normal distribution: quartiles to standard deviation
    return EngineCost(
        rows=ROWS,
        steps=STEPS,
        table=tuple(tuple(median(by_shape[rows, steps]) for steps in STEPS) for rows in ROWS),
        noise=min(1.0, fmean(spreads)),
    )


def _by_shape(calls: Sequence[Call]) -> dict[tuple[int, int], list[float]]:
    by_shape: dict[tuple[int, int], list[float]] = {}
    for call in calls:
        by_shape.setdefault((call.rows, call.steps), []).append(call.seconds)
    return by_shape
