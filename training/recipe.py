"""The way that all recipes go: train, judge on the test rows, write the files, print a table.

A recipe's folder holds, NAME being the recipe's:

- `NAME.safetensors`: the state dict, for the factory `training.models:NAME`.
- `NAME-calibration.npz`: training rows for INT8 calibration, `x` float32[rows, time, F] and `lengths` int64[rows].
- `NAME-test.npz`: the test rows `x`, `lengths`, `target`, and `prediction`: PyTorch's output for each row run alone.
- `NAME.json`: metrics, seed, epochs, versions, sizes and seconds. Written last: where it is, the others are complete.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from training.datasets import DataSet, FloatArray, Part
from training.errors import TrainingError
from training.files import write_arrays, write_json, write_weights
from training.loop import Epoch, Loss, Settings, answer_alone, best_of, train
from training.models import RecipeModel
from training.watching import Watch, progress_bar, tensorboard_log

CALIBRATION_ROWS = 256
THREADS = 1
"""Of torch. Models this small gain nothing from more (on 2 idle cores, 30 s for all recipes either way), and on a busy
machine threads that wait for each other took eight times as long. A fixed number also keeps the order of sums fixed."""
PACKAGES = ("torch", "numpy", "safetensors", "scikit-learn", "vega_datasets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a recipe says of its test predictions: numbers for the JSON file, a table and a sentence for the console."""

    metrics: Mapping[str, Any]
    table: Table
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model, its data, and how it is trained and judged.

    Attributes:
        name: of the factory in `training.models` and of the files.
        summary: one line for `--help`.
        model: gives the untrained model.
        data: loads the three parts.
        loss: of a batch's output and target; a scalar.
        judge: compares the predictions of the test rows, float32[rows, ...], with their targets.
        settings: how to train.
    """

    name: str
    summary: str
    model: Callable[[], RecipeModel]
    data: Callable[[], DataSet]
    loss: Loss
    judge: Callable[[Part, FloatArray], Judgement]
    settings: Settings


def run(recipe: Recipe, *, output: Path, tensorboard: Path | None, console: Console) -> None:
    """Train and judge the recipe's model and write its four files into the folder `output`, which must exist.

    Raises:
        TrainingError: the data are unusable, the training diverged, or TensorBoard was asked for and is not installed.
    """
    started = time.monotonic()
    data = recipe.data()
    model, epochs = fit(recipe, data, tensorboard=tensorboard, console=console)
    prediction = answer_alone(model, data.test)
    judgement = recipe.judge(data.test, prediction)
    write_weights(output / f"{recipe.name}.safetensors", model)
    _write_rows(recipe, data, prediction, output)
    record = _record(recipe, model, data, epochs)
    record |= {"metrics": judgement.metrics, "wall_seconds": round(time.monotonic() - started, 1)}
    write_json(output / f"{recipe.name}.json", record)
    console.print(judgement.table)
    console.print(judgement.sentence, soft_wrap=True)
    console.print(
        f"Epoch {record['best_epoch']} of {len(epochs)} was the best; {record['wall_seconds']} s; written to {output}",
        soft_wrap=True,
    )


def fit(
    recipe: Recipe, data: DataSet, *, tensorboard: Path | None = None, console: Console
) -> tuple[RecipeModel, tuple[Epoch, ...]]:
    """Return the recipe's model, trained on these data and in evaluation mode, and all epochs.

    Raises:
        TrainingError: the training diverged, or TensorBoard was asked for and is not installed.
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(recipe.settings.seed)
    model = recipe.model()
    model.standardise.measure(torch.from_numpy(data.train.real_steps()))
    return model, _train(recipe, model, data, tensorboard=tensorboard, console=console)


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> int:
    """Run the recipe as the command line says and return the exit code: 0, or 1 with a message if training failed."""
    parser = argparse.ArgumentParser(prog=f"python -m training.{recipe.name}", description=recipe.summary)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights, the rows and the metrics")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="write logs for TensorBoard into this folder")
    parser.add_argument("--epochs", type=at_least(1), default=recipe.settings.epochs, help="most epochs (%(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=recipe.settings.seed, help="default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {given.output}: cannot be made a folder ({error.strerror}); name a new or existing one")
    chosen = replace(recipe, settings=replace(recipe.settings, epochs=given.epochs, seed=given.seed))
    try:
        run(chosen, output=given.output, tensorboard=given.tensorboard, console=Console())
    except TrainingError as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


def write_calibration(path: Path, data: DataSet, *, seed: int) -> None:
    """Write a seeded choice of training rows for `lstm-export --data`."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:CALIBRATION_ROWS]
    calibration = data.train.take(np.sort(chosen))
    write_arrays(path, {"x": calibration.x, "lengths": calibration.lengths})


def at_least(smallest: int) -> Callable[[str], int]:
    """Return what argparse needs to read a whole number that may not be smaller."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {smallest}, got '{text}'")
        return int(text)

    return parse


def _train(
    recipe: Recipe, model: RecipeModel, data: DataSet, *, tensorboard: Path | None, console: Console
) -> tuple[Epoch, ...]:
    with ExitStack() as stack:
        watches: list[Watch] = []
        if tensorboard is not None:
            watches.append(stack.enter_context(tensorboard_log(tensorboard)))
        watches.append(stack.enter_context(progress_bar(recipe.name, epochs=recipe.settings.epochs, console=console)))

        def watch(epoch: Epoch) -> None:
            for one in watches:
                one(epoch)

        return train(model, data, loss=recipe.loss, settings=recipe.settings, watch=watch)


def _write_rows(recipe: Recipe, data: DataSet, prediction: FloatArray, output: Path) -> None:
    """Write the test rows with their predictions, and the calibration rows."""
    write_calibration(output / f"{recipe.name}-calibration.npz", data, seed=recipe.settings.seed)
    test = data.test
    write_arrays(
        output / f"{recipe.name}-test.npz",
        {"x": test.x, "lengths": test.lengths, "target": test.target, "prediction": prediction},
    )


def _record(recipe: Recipe, model: RecipeModel, data: DataSet, epochs: Sequence[Epoch]) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "factory": f"training.models:{recipe.name}",
        "seed": recipe.settings.seed,
        "epochs_run": len(epochs),
        "best_epoch": best_of(epochs).number,
        "sizes": {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_rows": len(data.train),
            "validation_rows": len(data.validation),
            "test_rows": len(data.test),
        },
        "settings": asdict(recipe.settings),
        "history": [asdict(epoch) for epoch in epochs],
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    }
