"""What INT8 costs and saves: bytes, time and error, each as a ratio to FP32 within one run."""

from dataclasses import dataclass, replace
from functools import partial

import onnx
from onnx import numpy_helper
from rich.console import Console

from export.data import noise
from export.proving.difference import Difference
from export.runtime import Runtime
from loadtests.benchmarks.int8_models import LAYERS, Pair, Size, export_pair, random_pair
from training import digits, speaker
from training.distillation.sizes import TEACHER_HIDDEN, speaker_teacher
from training.exported import predict, rows_of
from training.models import DIGIT_PIXELS, DIGITS, SPEAKER_CHANNELS, DigitReader
from training.recipe import Recipe, fit
from training.turns import Spread, spread_of, take_turns

BATCHES = (1, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: timed runs of each model at each batch size.
        budget_seconds: after this long at one batch size, three rounds are enough.
        error_rows: sequences of noise that the error is measured on.
    """

    rounds: int
    budget_seconds: float
    error_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomModel:
    """What was measured of a random LSTM.

    Attributes:
        weights_bytes: of FP32 and INT8: the tensors that quantizing replaced; in INT8 scales and zero points are in.
        file_bytes: of FP32 and INT8: the ONNX files.
        seconds: of FP32 and INT8: median of one run, by rows of the batch.
        ratios: INT8's time over FP32's, round by round, by rows of the batch.
        rms: root mean square of the outputs' difference over that of FP32's outputs; rows run alone.
        steps: of every row.
    """

    size: Size
    weights_bytes: tuple[int, int]
    file_bytes: tuple[int, int]
    seconds: dict[int, tuple[float, float]]
    ratios: dict[int, Spread]
    rms: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What was measured of a classifier trained on real data; rows of the held-out part, each run alone.

    Attributes:
        name: of the recipe.
        right: rows that FP32 and INT8 name rightly.
        agreed: rows for which both give the same class.
    """

    name: str
    rows: int
    right: tuple[int, int]
    agreed: int
    parameters: int


def measure_random(size: Size, effort: Effort) -> RandomModel:
    """Measure one random LSTM on seeded noise.

    Raises:
        ExportError: it cannot be exported or quantized.
    """
    pair = random_pair(size)
    rows = noise(pair.fp32).rows[: effort.error_rows]
    runtimes = {"fp32": Runtime(pair.fp32), "int8": Runtime(pair.int8)}
    difference = Difference(pair.fp32.outputs)
    for row in rows:
        difference.add(runtimes["int8"].answer([row])[0], runtimes["fp32"].answer([row])[0])
    turns = {
        batch: take_turns(
            runtimes, rows[0], batch_rows=batch, rounds=effort.rounds, budget_seconds=effort.budget_seconds
        )
        for batch in BATCHES
    }
    return RandomModel(
        size=size,
        weights_bytes=_weights_bytes(pair),
        file_bytes=(len(pair.fp32.content), len(pair.int8.content)),
        seconds={
            batch: (spread_of(times["fp32"]).median, spread_of(times["int8"]).median) for batch, times in turns.items()
        },
        ratios={batch: spread_of(times["int8"] / times["fp32"]) for batch, times in turns.items()},
        rms=difference.rms_relative,
        steps=rows[0].steps,
    )


def measure_trained(console: Console) -> list[TrainedModel]:
    """Train two classifiers of two layers of 256 and compare their answers in both precisions.

    Raises:
        TrainingError: a training diverged, or the data are unusable.
        ExportError: a model cannot be exported or quantized.
    """
    large_digits = partial(DigitReader, pixels=DIGIT_PIXELS, hidden=TEACHER_HIDDEN, digits=DIGITS, layers=LAYERS)
    return [
        measure_classifier(replace(recipe, model=model), features=features, console=console)
        for recipe, model, features in (
            (speaker.RECIPE, speaker_teacher, SPEAKER_CHANNELS),
            (digits.RECIPE, large_digits, DIGIT_PIXELS),
        )
    ]


def measure_classifier(recipe: Recipe, *, features: int, console: Console) -> TrainedModel:
    """Train one classifier with `features` inputs and compare its answers in both precisions; errors as above."""
    data = recipe.data()
    model, _ = fit(recipe, data, console=console)
    pair = export_pair(model, features=features)
    rows = rows_of(data.test)
    fp32, int8 = (predict(Runtime(one), rows).argmax(axis=1) for one in (pair.fp32, pair.int8))
    return TrainedModel(
        name=recipe.name,
        rows=len(rows),
        right=(int((fp32 == data.test.target).sum()), int((int8 == data.test.target).sum())),
        agreed=int((fp32 == int8).sum()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _weights_bytes(pair: Pair) -> tuple[int, int]:
    """Return the bytes of the constants that only one of the files has: FP32's weights, and what replaced them."""
    fp32, int8 = (
        {
            tensor.name: numpy_helper.to_array(tensor).nbytes
            for tensor in onnx.load_from_string(model.content).graph.initializer
        }
        for model in (pair.fp32, pair.int8)
    )
    return (
        sum(size for name, size in fp32.items() if name not in int8),
        sum(size for name, size in int8.items() if name not in fp32),
    )
