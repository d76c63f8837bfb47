"""Makes a verified version of a model ready to serve: opens its engine, warms it up, and puts a batcher before it."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.batching import Batcher, CostModel, EqualLengths, Fifo, Stepwise, WholeSequence
from serving.batching import Policy as BatchingPolicy
from serving.clock import Clock
from serving.engine.choice import EngineChoice
from serving.engine.priority import compute_in_the_background
from serving.engine.sessions import SessionEngine
from serving.engine.turns import Turns
from serving.manifest import Manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.runner import Runner

log = logging.getLogger(__name__)
WARM_UP_STEPS = 64
WARM_UP_ROWS = 16


class Loader:
    """Makes a warmed-up runner of each version; one version at a time is opened, so that warm-ups are undisturbed."""

    def __init__(self, choice: EngineChoice, threads: int, clock: Clock, metrics: ServerMetrics) -> None:
        """Load nothing yet.

        Args:
            choice: of engines.
            threads: that all engines together may keep busy.
            clock: of the runners.
            metrics: that the runners report to.
        """
        self._choice = choice
        self._threads = threads
        self._clock = clock
        self._metrics = metrics
        self._turns = Turns(threads)
        self._background = ThreadPoolExecutor(1, initializer=compute_in_the_background)
        """Engines start threads of their own when they are opened, with the priority of the one that opens them."""

    def load(self, manifest: Manifest, policy: Policy, directory: Path) -> Runner:
        """Return a runner, not started, of the verified version in a directory (`serving.repository.loading.Loader`).

        Raises:
            ArtifactError: the version cannot be opened, or fails to run.
            EngineUnavailable: the device or engine asked for is not there.
        """
        engine, cost = self._background.submit(self._open, manifest, policy, directory).result()
        log.info(
            "loaded %s version %d: %s on %s by %s, batches %s, %s",
            manifest.name, manifest.version, manifest.precision, engine.device, engine.name,
            "in slices" if engine.in_slices else "whole", cost,
            extra={"event": "model_loaded", "model": manifest.name, "version": str(manifest.version)},
        )  # fmt: skip
        runner = Runner(
            manifest=manifest,
            policy=policy,
            engine=engine,
            batcher=Batcher(
                _batching(manifest, policy, cost),
                cost,
                max_queue_rows=policy.max_queue_rows,
                instances=policy.instances,
            ),
            turns=self._turns,
            clock=self._clock,
            metrics=self._metrics.of_model(manifest.name, str(manifest.version)),
        )
        self._metrics.describe_model(
            manifest.name, str(manifest.version), precision=manifest.precision, engine=engine.name
        )
        return runner

    def _open(self, manifest: Manifest, policy: Policy, directory: Path) -> tuple[SessionEngine, CostModel]:
        engine = self._choice.open(manifest, directory, threads=max(1, self._threads // policy.instances))
        cost = CostModel(padding_free=engine.padding_free)
        measured = engine.warm_up(_warm_up_shapes(policy), self._clock)
        cost.warm_start(measured)
        engine.choose_slices(measured, self._clock, most_rows=policy.max_batch_rows)
        return engine, cost


def _batching(manifest: Manifest, policy: Policy, cost: CostModel) -> BatchingPolicy:
    """Choose how rows share engine calls: by what the model can do, unless model.yaml asks for the plain way."""
    max_rows = policy.max_batch_rows
    if manifest.equal_lengths:
        return EqualLengths(cost, max_rows=max_rows)
    if policy.batching == "fifo":
        return Fifo(cost, max_rows=max_rows)
    if manifest.stepwise:
        tick_seconds = policy.tick_ms / 1000
        return Stepwise(cost, tick_seconds=tick_seconds, max_rows=max_rows, steps=policy.chunk_steps)
    return WholeSequence(cost, max_rows=max_rows)


def _warm_up_shapes(policy: Policy) -> list[tuple[int, int]]:
    """Return shapes that tell the three coefficients of the cost model apart, small ones first."""
    rows, steps = policy.max_batch_rows or WARM_UP_ROWS, min(WARM_UP_STEPS, policy.max_steps)
    shapes = itertools.product((1, min(WARM_UP_ROWS, rows)), (1, max(1, steps // 8), steps))
    return sorted(set(shapes), key=lambda shape: shape[0] * shape[1])
