"""A student of a quarter of its teacher's parameters: `python -m training.distill speaker --output DIR`.

Trains a teacher (or loads one), students that learn from it, and controls of the same size that do not; exports
teacher, student and the student in INT8 with `lstm-export`'s own proofs; judges and times them. Into DIR go the
weights, `models/` (a repository for `lstm-serve`), `TASK-distillation.json` and `TASK-distillation.png`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from export.errors import ProofFailed
from export.job import Job
from serving.errors import ArtifactError
from training.distillation.contestants import export_all, measure
from training.distillation.learning import learn
from training.distillation.report import Report
from training.distillation.show import plot, show
from training.distillation.tasks import TASKS, Task
from training.errors import TrainingError
from training.exported import median_row, rows_of
from training.files import write_json
from training.recipe import at_least


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task as the command line says; exit code 0, 1 if something failed, 2 if a proof did.

    Whether the claims were met does not matter to the code: they are measured, not required.
    """
    tasks = {task.recipe.name: task for task in TASKS}
    parser = argparse.ArgumentParser(
        prog="python -m training.distill", description="Distil a student of a quarter of its teacher's parameters."
    )
    parser.add_argument("task", choices=tasks, help="the recipe whose data and settings are used")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for all that is made")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of teacher and first student (default: 0)")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="load the teacher's weights (.safetensors) instead of training it"
    )
    given = parser.parse_args(arguments)
    task = tasks[given.task]
    recipe = replace(task.recipe, settings=replace(task.recipe.settings, seed=given.seed))
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {given.output}: cannot be made a folder ({error.strerror}); name a new or existing one")
    try:
        distil(replace(task, recipe=recipe), given.output, teacher_weights=given.teacher, console=Console())
    except (TrainingError, ArtifactError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 2 if isinstance(error, ProofFailed) else 1
    return 0


def distil(task: Task, output: Path, *, teacher_weights: Path | None = None, console: Console) -> Report:
    """Train, export, measure, write all files into the folder `output`, which must exist, and print the results.

    Args:
        task: what to do; the seed is in its recipe's settings.
        output: where to.
        teacher_weights: state dict of a teacher to load instead of training one.
        console: who watches.

    Raises:
        TrainingError: the data are unusable or a training diverged.
        ExportError: the teacher's weights do not fit, or a model cannot be exported.
        ProofFailed: an exported model is too far from what it was made from.
    """
    started = time.monotonic()
    data = task.recipe.data()
    learned = learn(task, data, output, teacher_weights=teacher_weights, console=console)
    runtimes = export_all(learned, output / "models", Job(data=learned.files.calibration, force=False, console=console))
    with console.status("judging and timing"):
        contestants = measure(learned, runtimes, data.test, task.metric)
    report = Report(
        task=task,
        learned=learned,
        contestants=contestants,
        test_rows=len(data.test),
        steps=median_row(rows_of(data.test)).steps,
        wall_seconds=round(time.monotonic() - started, 1),
    )
    stem = output / f"{task.recipe.name}-distillation"
    plot(report, stem.with_suffix(".png"))
    write_json(stem.with_suffix(".json"), report.as_json())
    show(report, console)
    console.print(f"{report.wall_seconds} s; written to {output}", soft_wrap=True, markup=False, highlight=False)
    return report


if __name__ == "__main__":
    sys.exit(main())
