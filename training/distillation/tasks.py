"""The tasks that distillation is shown on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training import forecast, speaker
from training.datasets import FloatArray, Targets
from training.distillation import sizes
from training.distillation.teaching import OfClasses, OfNumbers, Teaching
from training.models import RecipeModel
from training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured on the held-out rows.

    Attributes:
        name: with its unit.
        of: gives the metric of the predictions, float32[rows, ...], and the targets of all rows.
        higher_is_better: direction.
    """

    name: str
    of: Callable[[FloatArray, Targets], float]
    higher_is_better: bool

    def gain(self, value: float, *, over: float) -> float:
        """Return by how much a value is better than another one; negative if it is worse."""
        return value - over if self.higher_is_better else over - value


def accuracy(prediction: FloatArray, target: Targets) -> float:
    """Return the share of rows whose largest logit is the target's, of float32[rows, classes] and int64[rows]."""
    return float((prediction.argmax(axis=1) == target).mean())


def mean_absolute_error(prediction: FloatArray, target: Targets) -> float:
    """Return the mean absolute error of float32[rows, ...], in their unit."""
    return float(np.abs(prediction - target).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A recipe with a teacher and a student of its own.

    Attributes:
        recipe: gives data, loss and settings; its model is not used.
        teacher, student: give the untrained models; functions of a module, because the exporter imports them by name.
        teaching: how the student learns from the teacher.
        input: the models' one input, as `lstm-export --input` takes it.
    """

    recipe: Recipe
    teacher: Callable[[], RecipeModel]
    student: Callable[[], RecipeModel]
    teaching: Teaching
    metric: Metric
    input: str


TASKS = (
    Task(
        recipe=speaker.RECIPE,
        teacher=sizes.speaker_teacher,
        student=sizes.speaker_student,
        teaching=OfClasses(),
        metric=Metric(name="accuracy", of=accuracy, higher_is_better=True),
        input="x:float32[batch,time,12]",
    ),
    Task(
        recipe=forecast.RECIPE,
        teacher=sizes.forecast_teacher,
        student=sizes.forecast_student,
        teaching=OfNumbers(),
        metric=Metric(name="MAE, °C", of=mean_absolute_error, higher_is_better=False),
        input="x:float32[batch,time,6]",
    ),
)
