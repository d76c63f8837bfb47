"""The teacher, its students and their controls, trained one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

from export.pytorch.loading import load_model
from export.spec import ExportSpec, parse_input
from training.datasets import DataSet
from training.distillation.tasks import Task
from training.files import write_weights
from training.loop import Epoch, answer_alone
from training.models import RecipeModel
from training.recipe import Recipe, fit, write_calibration

SEEDS = 3
"""Students and controls: what one seed gains or loses by luck is as large as what a teacher adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What learning leaves for the exporter.

    Attributes:
        teacher, student: how each is exported, its weights' file included.
        calibration: `.npz` with training rows.
    """

    teacher: ExportSpec
    student: ExportSpec
    calibration: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was trained.

    Attributes:
        teacher_parameters, student_parameters: how many each has.
        teacher: metric of its answers on the held-out rows, in PyTorch.
        with_teacher, without_teacher: the same of students and controls, one of each per seed.
        history: epochs of the first student, whose weights are kept.
    """

    files: Files
    teacher_parameters: int
    student_parameters: int
    teacher: float
    with_teacher: tuple[float, ...]
    without_teacher: tuple[float, ...]
    history: tuple[Epoch, ...]


def learn(task: Task, data: DataSet, folder: Path, *, teacher_weights: Path | None, console: Console) -> Learned:
    """Train a teacher, or load it, and one student and one control per seed; write the first of each into `folder`.

    A control is the recipe itself at the student's size: the same initial weights, order of rows and settings, the
    recipe's own loss, no teacher.

    Raises:
        TrainingError: a training diverged, or the data are unusable.
        ExportError: the teacher's weights cannot be read or do not fit.
    """
    name, seed = task.recipe.name, task.recipe.settings.seed
    calibration = folder / f"{name}-calibration.npz"
    write_calibration(calibration, data, seed=seed)
    files = Files(
        teacher=_spec(task, task.teacher, teacher_weights or folder / f"{name}-teacher.safetensors", "teacher"),
        student=_spec(task, task.student, folder / f"{name}-student.safetensors", "student"),
        calibration=calibration,
    )
    if teacher_weights is None:
        model, _ = fit(_named(task.recipe, "teacher", task.teacher, seed), data, console=console)
        write_weights(files.teacher.weights, model)
    teacher = load_model(files.teacher)
    taught_data = task.teaching.taught(data, teacher)
    taught_recipe = replace(task.recipe, loss=task.teaching.loss(task.recipe.loss))
    seeds = range(seed, seed + SEEDS)
    students = [fit(_named(taught_recipe, "student", task.student, one), taught_data, console=console) for one in seeds]
    controls = [fit(_named(task.recipe, "control", task.student, one), data, console=console) for one in seeds]
    student, history = students[0]
    write_weights(files.student.weights, student)
    return Learned(
        files=files,
        teacher_parameters=_parameters(teacher),
        student_parameters=_parameters(student),
        teacher=_judge(task, data, teacher),
        with_teacher=tuple(_judge(task, data, model) for model, _ in students),
        without_teacher=tuple(_judge(task, data, model) for model, _ in controls),
        history=history,
    )


def _named(recipe: Recipe, role: str, model: Callable[[], RecipeModel], seed: int) -> Recipe:
    return replace(recipe, name=f"{recipe.name}-{role}", model=model, settings=replace(recipe.settings, seed=seed))


def _spec(task: Task, model: Callable[[], RecipeModel], weights: Path, role: str) -> ExportSpec:
    return ExportSpec(
        factory=f"{model.__module__}:{model.__qualname__}",
        weights=weights,
        name=f"{task.recipe.name}-{role}",
        inputs=(parse_input(task.input),),
    )


def _judge(task: Task, data: DataSet, model: nn.Module) -> float:
    return task.metric.of(answer_alone(model, data.test), data.test.target)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
