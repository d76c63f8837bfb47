"""The demo's three models, and how their answers are judged."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training import digits, forecast, speaker
from training.client import Floats
from training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One model of the demo.

    Attributes:
        recipe: its training program.
        input: its one input, as `lstm-export --input` takes it.
        metric: what is measured on the held-out rows.
        higher_is_better: direction of the metric.
    """

    name: str
    recipe: Recipe
    input: str
    metric_name: str
    metric: Callable[[Floats, Floats], float]
    higher_is_better: bool


def accuracy(prediction: Floats, target: Floats) -> float:
    """Return the share of rows whose largest logit is the target's, of float32[rows, classes] and int64[rows]."""
    return float((prediction.argmax(axis=1) == target).mean())


def mean_absolute_error(prediction: Floats, target: Floats) -> float:
    """Return the mean absolute error of float32[rows, days, targets]."""
    return float(np.abs(prediction - target).mean())


EXAMPLES = (
    Example(
        name="speaker",
        recipe=speaker.RECIPE,
        input="x:float32[batch,time,12]",
        metric_name="accuracy",
        metric=accuracy,
        higher_is_better=True,
    ),
    Example(
        name="forecast",
        recipe=forecast.RECIPE,
        input="x:float32[batch,time,6]",
        metric_name="MAE, °C",
        metric=mean_absolute_error,
        higher_is_better=False,
    ),
    Example(
        name="digits",
        recipe=digits.RECIPE,
        input="x:float32[batch,time,8]",
        metric_name="accuracy",
        metric=accuracy,
        higher_is_better=True,
    ),
)
