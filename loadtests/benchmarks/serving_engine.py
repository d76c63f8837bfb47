"""The engine alone: onnxruntime on one thread, as the limit that a server on the same core could reach."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

BATCHES = (1, 8, 16, 32, 64, 128)


def engine_call(file: Path, *, features: int, rows: int, steps: int) -> Callable[[], object]:
    """Return a call of the model with seeded values, the batch full of real steps; it has been made once.

    Args:
        file: the ONNX model, with inputs `x`, `lengths` and perhaps `state`.
        features: of a step.
        rows: of the batch.
        steps: of every row.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options)
    x = np.random.default_rng(0).normal(size=(rows, steps, features)).astype(np.float32)
    feed = {"x": x, "lengths": np.full(rows, steps, np.int64)}
    for given in session.get_inputs():
        if given.name == "state":
            feed["state"] = np.zeros((rows, given.shape[1]), np.float32)
    session.run(None, feed)
    return lambda: session.run(None, feed)


def engine_seconds(file: Path, *, features: int, rows: int, steps: int, seconds: float) -> list[float]:
    """Return the seconds of each call, of as many as can be made in some seconds, three at least."""
    call = engine_call(file, features=features, rows=rows, steps=steps)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def best_batch(file: Path, *, features: int, steps: int, seconds: float) -> int:
    """Return the rows with the most steps per second, each measured for some seconds."""

    def per_step(rows: int) -> float:
        taken = engine_seconds(file, features=features, rows=rows, steps=steps, seconds=seconds)
        return float(np.median(taken)) / rows

    return min(BATCHES, key=per_step)
