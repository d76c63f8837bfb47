"""What the native engine costs and what its rounding does, beside onnxruntime, and that its answers stay the same."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from export.proving.difference import Difference
from loadtests.benchmarks.native_models import STEPS, Batch, Engines, Floats, NativeLayers, Stack, States, feed_of
from serving.engine.native.library import load_library
from serving.manifest import Tensor
from training.turns import Seconds, Spread, spread_of, time_in_turns

BATCHES = (Batch(rows=1), Batch(rows=8), Batch(rows=32), Batch(rows=32, mixed=True))
FULL, MIXED = BATCHES[2:]
TILE_HIDDEN = 256
"""From this size on, the layers are compared with the bare tile."""
MOST_ROUNDS = 1000
CHUNKS = (1, 7)
"""Where a batch is cut in three; no multiple of what the kernels take at once."""
Y = Tensor(name="y", datatype="FP32", shape=("batch", "time", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One batch, timed.

    Attributes:
        multiply_adds: of one run, of the rows' own steps.
        tile_multiply_adds: of one turn of the bare tile; 0 if it took no turns.
        seconds: by "fp32", "int8" (onnxruntime), "native" and "tile", float64[rounds].
    """

    batch: Batch
    multiply_adds: int
    tile_multiply_adds: int
    seconds: Mapping[str, Seconds]

    def speedup(self, over: str) -> Spread | None:
        """Return how many times faster the native engine is, round by round; None if the other has no such form."""
        return spread_of(self.seconds[over] / self.seconds["native"]) if over in self.seconds else None

    def milliseconds(self, form: str) -> float:
        """Return the median time of one run."""
        return spread_of(self.seconds[form]).median * 1e3

    @property
    def rate(self) -> Spread:
        """Multiply-adds per second of the native engine."""
        return spread_of(self.multiply_adds / self.seconds["native"])

    @property
    def tile_rate(self) -> Spread | None:
        """Multiply-adds per second of the bare tile."""
        return spread_of(self.tile_multiply_adds / self.seconds["tile"]) if self.tile_multiply_adds else None

    @property
    def tile_share(self) -> Spread | None:
        """The native engine's rate over the tile's, round by round."""
        if not self.tile_multiply_adds:
            return None
        rate = self.multiply_adds / self.seconds["native"]
        return spread_of(rate * self.seconds["tile"] / self.tile_multiply_adds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """Answers that must be the same to the bit, compared.

    Attributes:
        what: was done in two ways.
        values: compared.
        differences: values whose bits are not the same.
    """

    what: str
    values: int
    differences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a stack.

    Attributes:
        rms: by "int8" and "native", root mean square of the outputs' difference from FP32 over that of FP32's outputs;
            rows run alone, since company changes onnxruntime's.
        instruction_set: that the native engine used.
    """

    stack: Stack
    points: tuple[Point, ...]
    rms: Mapping[str, float]
    sameness: tuple[Sameness, ...]
    instruction_set: str


def measure(stack: Stack, seconds: float) -> Measured:
    """Measure one stack.

    Args:
        stack: its layers.
        seconds: for which the engines take turns on each batch; three turns each at least.

    Raises:
        ExportError: onnxruntime cannot load or run a form.
        EngineUnavailable: the native library was not built.
    """
    engines = Engines(stack)
    return Measured(
        stack=stack,
        points=tuple(_time(engines, batch, seconds) for batch in BATCHES),
        rms=_rms(engines),
        sameness=tuple(_sameness(engines)),
        instruction_set=engines.weights.instruction_set,
    )


def _time(engines: Engines, batch: Batch, seconds: float) -> Point:
    x, lengths = batch.x, batch.lengths
    feed = feed_of(x, lengths)
    calls: dict[str, Callable[[], object]] = {
        name: partial(runtime.run, feed) for name, runtime in engines.onnxruntime.items()
    }
    calls["native"] = partial(engines.native.run, x, lengths)
    tile_multiply_adds = 0
    if batch == FULL and engines.stack.hidden >= TILE_HIDDEN:
        calls["tile"], tile_multiply_adds = _tile(engines)
    return Point(
        batch=batch,
        multiply_adds=int(lengths.sum()) * engines.stack.multiply_adds,
        tile_multiply_adds=tile_multiply_adds,
        seconds=time_in_turns(calls, rounds=MOST_ROUNDS, budget_seconds=seconds),
    )


def _tile(engines: Engines) -> tuple[Callable[[], None], int]:
    """Return a turn of the bare tile, and its multiply-adds: as many products of the last layer as there are steps.

    It reads the recurrent weights of a whole layer for each product, as a step does, and computes no gates. The library
    is called without `Weights.sums`, which makes arrays for each call.
    """
    weights, index, rows = engines.weights, engines.weights.layers - 1, FULL.rows
    layer = weights.describe(index)
    x = np.random.default_rng(0).normal(size=(rows, layer.hidden)).astype(np.float32)
    sums, scales = weights.sums(index, 0, 1, x)
    function = load_library().lstm_native_sums

    def turn() -> None:
        arguments = weights.handle, index, 0, 1, x.ctypes.data, rows, sums.ctypes.data, scales.ctypes.data
        for _ in range(STEPS):
            function(*arguments)

    return turn, STEPS * rows * layer.gates * layer.hidden * layer.hidden


def _rms(engines: Engines) -> dict[str, float]:
    x, one = FULL.x, Batch(rows=1).lengths
    differences = {name: Difference((Y,)) for name in (*engines.onnxruntime, "native") if name != "fp32"}
    for row in np.split(x, FULL.rows, axis=1):
        answers = {name: runtime.run(feed_of(row, one))["y"] for name, runtime in engines.onnxruntime.items()}
        answers["native"] = engines.native.run(row)[0]
        for name, difference in differences.items():
            difference.add({"y": answers[name]}, {"y": answers["fp32"]})
    return {name: difference.rms_relative for name, difference in differences.items()}


def _sameness(engines: Engines) -> list[Sameness]:
    native, x, lengths = engines.native, MIXED.x, MIXED.lengths
    whole, states = native.run(x, lengths)
    alone = [
        pair
        for row, steps in enumerate(lengths)
        for pair in zip(
            _flat(*native.run(x[:steps, row : row + 1])),
            _flat(whole[:steps, row : row + 1], [(h[:, row : row + 1], c[:, row : row + 1]) for h, c in states]),
            strict=True,
        )
    ]
    two = NativeLayers(engines.weights, threads=2).run(x, lengths)
    ends, carried = native.run(x)
    chunks: list[Floats] = []
    state: States | None = None
    for chunk in np.split(x, CHUNKS):
        y, state = native.run(chunk, None, state)
        chunks.append(y)
    assert state is not None
    return [
        compare(f"each of {MIXED.rows} rows alone and in a batch of mixed lengths", alone),
        compare("1 thread and 2", zip(_flat(whole, states), _flat(*two), strict=True)),
        compare(
            f"whole, and in {len(chunks)} chunks with carried state",
            zip(_flat(ends, carried), _flat(np.concatenate(chunks), state), strict=True),
        ),
    ]


def _flat(y: Floats, states: States) -> list[Floats]:
    return [y, *(array for state in states for array in state)]


def compare(what: str, pairs: Iterable[tuple[Floats, Floats]]) -> Sameness:
    """Count the values whose bits differ, signs of zero included."""
    bits = [tuple(np.ascontiguousarray(array).view(np.uint32) for array in pair) for pair in pairs]
    return Sameness(
        what=what,
        values=sum(one.size for one, _ in bits),
        differences=sum(int(np.count_nonzero(one != other)) for one, other in bits),
    )
