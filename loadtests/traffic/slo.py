"""Service level objectives: a YAML file of limits, and what a run is worth by them. Pure but for reading the file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.figures import Figures
from serving.manifest import first_problem
from serving.strict_yaml import load_yaml


class Objectives(BaseModel):
    """Limits that a run must keep; what is not given has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    p99_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    p999_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    error_share: float = Field(0.0, ge=0, le=1)
    shed_share: float = Field(1.0, ge=0, le=1)
    goodput_per_second: float = Field(0.0, ge=0, allow_inf_nan=False)
    wrong_answers: int = Field(0, ge=0)
    window_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="percentiles and shares must hold in every stretch of this length"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One objective, and what was measured.

    Attributes:
        objective: in words.
        limit: that it sets.
        measured: NaN if there was nothing to measure, which keeps no objective.
        at_least: whether the limit is a lower one.
    """

    objective: str
    limit: float
    measured: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the objective is kept."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def read_objectives(path: Path) -> Objectives:
    """Read a file of objectives.

    Raises:
        TrafficError: it cannot be read, is not YAML, or has an unknown key or a value that is no limit.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
        return Objectives.model_validate({} if content is None else content)
    except OSError as error:
        raise TrafficError(f"{path}: cannot be read ({error.strerror}); expected a YAML file of objectives") from error
    except ValidationError as error:
        known = ", ".join(Objectives.model_fields)
        raise TrafficError(f"{path}: {first_problem(error)}; the objectives are {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrafficError(f"{path}: not valid YAML: {error}") from error


def judge(objectives: Objectives, whole: Figures, windows: Sequence[Figures] = ()) -> list[Verdict]:
    """Compare a run with the objectives.

    Args:
        objectives: the limits.
        whole: of the run.
        windows: of its stretches, if they must keep the limits too; those in which nothing was due say nothing.
    """
    spans = [window for window in windows if window.due] or [whole]
    where = " in the worst stretch" if windows else ""
    verdicts = [
        Verdict(objective=f"{words}{where}, seconds", limit=limit, measured=_largest(values))
        for words, limit, values in (
            ("p50", objectives.p50_seconds, [span.p50 for span in spans]),
            ("p99", objectives.p99_seconds, [span.p99 for span in spans]),
            ("p99.9", objectives.p999_seconds, [span.p999 for span in spans]),
        )
        if limit is not None
    ]
    worst_errors, worst_shed = (max(span.error_share for span in spans), max(span.shed_share for span in spans))
    verdicts += [
        Verdict(objective=f"errors{where}, share", limit=objectives.error_share, measured=worst_errors),
        Verdict(objective=f"shed{where}, share", limit=objectives.shed_share, measured=worst_shed),
        Verdict(
            objective="answers in time per second",
            limit=objectives.goodput_per_second,
            measured=whole.goodput_per_second,
            at_least=True,
        ),
        Verdict(objective="wrong answers", limit=objectives.wrong_answers, measured=whole.wrong),
        Verdict(objective="lost requests", limit=0, measured=whole.lost),
    ]
    return verdicts


def _largest(values: Sequence[float]) -> float:
    """Return the largest value, NaN if one is: `max` would depend on their order."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)
