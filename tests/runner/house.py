"""A runner with everything around it in view: a clock that moves when told, an engine that sums, replies that are kept."""

from collections.abc import Callable, Sequence

import numpy as np

from serving.batching import Batch, Batcher, CostModel, Stepwise, WholeSequence
from serving.batching import Policy as BatchingPolicy
from serving.engine.turns import Turns
from serving.errors import ServingError
from serving.manifest import Manifest
from serving.policy import Policy
from serving.runner import Runner
from serving.tensors import Array, Arrays, Rows
from tests.support.artefacts import FEATURES

WIDTH = 4
POISON = 666.0


class ManualClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns


class SummingEngine:
    """Answers each row with sums of its own values, so that an answer in the wrong hands shows; fails on a row that says so.

    `steps` is the running sum up to each step, `last` the whole; the state is the sum so far, so that a chunk run twice,
    left out or given another row's state shows as well.
    """

    device = "cpu"
    threads = 1
    padding_free = False

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.during: Callable[[], None] = lambda: None
        """What happens while the engine computes."""

    def run(self, feed: Arrays) -> Arrays:
        x = feed["x"]
        self.calls.append(x.shape[:2])
        self.during()
        if (x == POISON).any():
            raise RuntimeError("poisoned")
        start = feed["state"][:, :1] if "state" in feed else np.zeros((len(x), 1), np.float32)
        sums = start + np.cumsum(x.sum(axis=2), axis=1)
        last = sums[np.arange(len(x)), feed["lengths"] - 1]
        outputs = {"steps": np.repeat(sums[..., None], WIDTH, 2), "last": np.repeat(last[:, None], WIDTH, 1)}
        if "state" in feed:
            outputs["next_state"] = np.repeat(last[:, None], 2 * WIDTH, 1)
        return outputs


class Outcome:
    """Keeps what a reply was given."""

    def __init__(self) -> None:
        self.answers: list[Arrays] = []
        self.errors: list[ServingError] = []

    def answer(self, outputs: Arrays) -> None:
        self.answers.append(outputs)

    def fail(self, error: ServingError) -> None:
        self.errors.append(error)

    @property
    def made(self) -> bool:
        return bool(self.answers or self.errors)

    @property
    def outputs(self) -> Arrays:
        assert not self.errors, self.errors
        (answer,) = self.answers
        return answer

    @property
    def totals(self) -> list[float]:
        return [float(total) for total in self.outputs["last"][:, 0]]

    @property
    def error(self) -> ServingError:
        assert not self.answers
        (error,) = self.errors
        return error


class Figures:
    """Keeps what the runner reports."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, int]] = []
        self.parts_ns: list[tuple[int, int, int]] = []
        self.failed = 0
        self.done = 0
        self.costs: list[tuple[float, float]] = []
        self.waits_ns: list[int] = []

    def watch(
        self,
        *,
        waiting_rows: Callable[[], float],
        live_rows: Callable[[], float],
        backlog_seconds: Callable[[], float],
    ) -> None:
        self.waiting_rows = waiting_rows
        self.live_rows = live_rows
        self.backlog_seconds = backlog_seconds

    def batch_started(self, batch: Batch, *, waits_ns: Sequence[int]) -> None:
        assert batch.spans
        self.waits_ns += waits_ns

    def batch_ran(self, batch: Batch, *, pack_ns: int, engine_ns: int, scatter_ns: int) -> None:
        self.parts_ns.append((pack_ns, engine_ns, scatter_ns))
        self.ran.append((batch.rows, batch.steps))

    def batch_failed(self, batch: Batch) -> None:
        assert batch.spans
        self.failed += 1

    def rows_done(self, rows: int) -> None:
        self.done += rows

    def cost_learned(self, batch: Batch, *, seconds: float) -> None:
        self.costs.append((batch.predicted_seconds, seconds))


class House:
    """One runner; rows of `put` hold one value in every step and feature."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        max_rows: int = 8,
        max_queue_rows: int = 16,
        chunk_steps: int = 2,
        instances: int = 1,
    ) -> None:
        self.clock = ManualClock()
        self.engine = SummingEngine()
        self.figures = Figures()
        self.cost = CostModel()
        batching: BatchingPolicy = WholeSequence(self.cost, max_rows=max_rows)
        if manifest.stepwise:
            batching = Stepwise(self.cost, tick_seconds=0.01, max_rows=max_rows, steps=chunk_steps)
        self.batcher = Batcher(batching, self.cost, instances=instances, max_queue_rows=max_queue_rows)
        self.runner = Runner(
            manifest=manifest,
            policy=Policy.model_validate({"instances": instances}),
            engine=self.engine,
            batcher=self.batcher,
            turns=Turns(instances),
            clock=self.clock,
            metrics=self.figures,
        )

    def put(
        self,
        value: float,
        *,
        lengths: Sequence[int] = (2,),
        deadline_ns: int | None = None,
        priority: int | None = None,
    ) -> Outcome:
        outcome = Outcome()
        self.send(rows_of(value, lengths), outcome, deadline_ns=deadline_ns, priority=priority)
        return outcome

    def send(self, rows: Rows, outcome: Outcome, *, deadline_ns: int | None = None, priority: int | None = None) -> int:
        return self.runner.put(rows, outcome, deadline_ns=deadline_ns, priority=priority)

    def run_all(self) -> None:
        """Turn until there is nothing left to do."""
        while self.runner.step():
            pass


def rows_of(value: float, lengths: Sequence[int]) -> Rows:
    """Make a request whose rows hold one value, zero beyond their lengths."""
    time = max(lengths)
    x: Array = np.full((len(lengths), time, FEATURES), value, np.float32)
    x[np.arange(time) >= np.array(lengths)[:, None]] = 0
    return Rows(inputs={"x": x}, lengths=np.array(lengths, np.int64), time=time)
