"""What things take on one core of one machine, measured; the truth that a simulated cost model has to learn."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.manifest import first_problem

MEASURED = Path(__file__).with_name("measured.json")
"""Written by `python -m loadtests.simulate.calibrate --save`."""


class Frozen(BaseModel):
    """What all settings of a simulation have in common: they never change, and none is misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineCost(Frozen):
    """What an engine call takes, by its rows and steps: between measured shapes, and beyond them, in proportion.

    A table and no formula, because engines have their favourite shapes: two rows may take hardly longer than one. It is
    of a core of its own; noise is the standard deviation of the logarithm of what a call takes against the table.
    """

    rows: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    table: tuple[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], ...] = Field(
        description="seconds: for each number of rows, of each number of steps"
    )
    noise: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, axis in (("rows", self.rows), ("steps", self.steps)):
            if any(later <= earlier for earlier, later in pairwise(axis)):
                raise ValueError(f"{name} of the table are {axis}, expected increasing numbers")
        if len(self.table) != len(self.rows) or any(len(line) != len(self.steps) for line in self.table):
            raise ValueError(f"the table is not of {len(self.rows)} rows and {len(self.steps)} steps")
        return self

    @classmethod
    def linear(cls, *, call: float, row: float = 0.0, step: float, row_step: float, noise: float = 0.0) -> Self:
        """Return what takes call + row * rows + step * steps + row_step * rows * steps."""
        ends = (1, 64)
        table = tuple(tuple(call + row * rows + (step + row_step * rows) * steps for steps in ends) for rows in ends)
        return cls(rows=ends, steps=ends, table=table, noise=noise)

    def slower(self, factor: float) -> Self:
        """Return the same with every call so many times as long."""
        return self.model_copy(update={"table": tuple(tuple(each * factor for each in line) for line in self.table)})

    def seconds(self, rows: int, steps: int) -> float:
        """Return what a call takes without noise."""
        line, across = _place(self.rows, rows)
        column, along = _place(self.steps, steps)
        fewer, more = self.table[line], self.table[line + 1]
        less = fewer[column] + along * (fewer[column + 1] - fewer[column])
        return less + across * (more[column] + along * (more[column + 1] - more[column]) - less)


def _place(axis: Sequence[int], at: int) -> tuple[int, float]:
    """Return the first of the two neighbours a number lies between or nearest to, and how far it is to the second."""
    first = min(max(bisect_right(axis, at) - 1, 0), len(axis) - 2)
    return first, (at - axis[first]) / (axis[first + 1] - axis[first])


class FrontCost(Frozen):
    """Seconds of a core that Python and gRPC need for a request, beside the engine."""

    unread: float = Field(0.0, ge=0, description="to take a call, or to refuse it before its message is read")
    message: float = Field(0.0, ge=0, description="to read, check and queue its message")
    reply: float = Field(0.0, ge=0, description="to write its answer")
    error: float = Field(0.0, ge=0, description="to write an error in the place of an answer")
    wake: float = Field(0.0, ge=0, description="more, each time that a thread of the front had nothing to do")
    network: float = Field(0.0, ge=0, description="on the way there and back, no core of the replica's")

    @property
    def answered(self) -> float:
        """Seconds of a core for a request that is answered."""
        return self.unread + self.message + self.reply


class ModelCost(Frozen):
    """One model on one machine."""

    engine: EngineCost
    front: FrontCost
    load: float = Field(gt=0, description="seconds from the process's start until it is ready")


class ServerCost(Frozen):
    """What a server with one model costs beside its requests."""

    start: float = Field(gt=0, description="seconds from the process's start until it is ready, on one core")
    load: float = Field(gt=0, description="of these, loading the model (lstm_model_load_seconds)")
    version_series: int = Field(ge=1, description="time series of the model's version")
    server_series: int = Field(ge=1, description="all others")
    page_bytes: int = Field(ge=1, description="of /metrics")
    scrape: float = Field(ge=0, description="seconds of CPU of one scrape")
    probe: float = Field(ge=0, description="seconds of CPU of one health check over gRPC")


class Measured(Frozen):
    """What the calibration measured.

    Attributes:
        machine: it was measured on.
        date: of the measurement.
        models: by name.
        servers: of each model.
    """

    machine: str
    date: str
    models: dict[str, ModelCost]
    servers: dict[str, ServerCost]

    @classmethod
    def read(cls, path: Path = MEASURED) -> Self:
        """Read a file of the calibration's.

        Raises:
            ValueError: it cannot be read, or is none; the message says what to do.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            problem = first_problem(error)
        except (OSError, ValueError) as error:
            problem = str(error)
        raise ValueError(f"{path}: no measured costs ({problem}); `python -m loadtests.simulate.calibrate --save`")
