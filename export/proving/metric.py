"""`--metric`: the user's own figure of merit, FP32 against the smaller version.

The function is called as `metric(outputs, data)` and returns a number. Both arguments are dicts by name, of lists with
one array per sequence, in the data's order and without padding: `outputs` has what the model answers, dtype[steps, ...]
or dtype[...]; `data` has the model's inputs in the same form, `lengths`, and whatever else the data hold, such as
labels, one per sequence, as they stand there. Higher is better unless the function has an attribute
`higher_is_better = False`, or the command line says `--metric-lower-is-better`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.callables import import_function
from export.data import Data
from export.errors import ExportError
from export.runtime import Array, Runtime
from export.spec import LENGTHS
from serving.manifest import Proof

Arrays = Mapping[str, Sequence[Array]]
FLAG = "--metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A function that judges a model's answers; see the module."""

    name: str
    function: Callable[[Arrays, Arrays], float]
    higher_is_better: bool


def load_metric(name: str, *, lower_is_better: bool) -> Metric:
    """Return the metric MODULE:FUNCTION.

    Args:
        name: of the function.
        lower_is_better: whatever the function's own attribute says.

    Raises:
        ExportError: it cannot be imported or called.
    """
    function = import_function(FLAG, name)
    higher = bool(getattr(function, "higher_is_better", True)) and not lower_is_better
    return Metric(name=name, function=function, higher_is_better=higher)


def report_metric(metric: Metric, runtimes: Mapping[str, Runtime], data: Data, *, judged: str) -> Proof:
    """Report the metric of each form of a model over every sequence of the data, each run alone.

    `loss` is the absolute difference of the judged form from FP32 in the direction that is worse; negative if it is
    better.

    Args:
        metric: as loaded.
        runtimes: by what their figures are called; "fp32" among them.
        data: real sequences.
        judged: the form whose loss counts.

    Raises:
        ExportError: the data are noise, or the function fails or returns no finite number.
    """
    if not data.real:
        raise ExportError(f"{FLAG} {metric.name}: noise has no right answers; give --data as well")
    values = {name: _evaluate(metric, runtime, data) for name, runtime in runtimes.items()}
    fp32, smaller = values["fp32"], values[judged]
    return Proof(
        name="metric",
        passed=True,
        measured={
            "function": metric.name,
            "better": "higher" if metric.higher_is_better else "lower",
            **values,
            "loss": fp32 - smaller if metric.higher_is_better else smaller - fp32,
            "rows": len(data.everything),
        },
    )


def _evaluate(metric: Metric, runtime: Runtime, data: Data) -> float:
    answers = [runtime.answer([row])[0] for row in data.everything]
    outputs = {tensor.name: [answer[tensor.name] for answer in answers] for tensor in runtime.model.outputs}
    given: dict[str, list[Array]] = {name: list(array) for name, array in data.extras.items()}
    given |= {tensor.name: [row.inputs[tensor.name] for row in data.everything] for tensor in runtime.model.inputs}
    given[LENGTHS] = [np.asarray(row.steps) for row in data.everything]
    try:
        value = float(metric.function(outputs, given))
    except Exception as error:
        raise ExportError(
            f"{FLAG} '{metric.name}' failed: {type(error).__name__}: {error}; it is called with the outputs "
            f"{sorted(outputs)} and the data {sorted(given)}, each a list of one array per sequence, and must return a "
            "number"
        ) from error
    if not math.isfinite(value):
        raise ExportError(f"{FLAG} '{metric.name}' returned {value}; expected a finite number")
    return value
