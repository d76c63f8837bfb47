"""What things take on one core of one machine, measured; the truth that a simulated cost model has to learn."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.manifest import first_problem

MEASURED = Path(__file__).with_name("measured.json")
"""Written by `python -m loadtests.simulate.calibrate --save`."""


class Frozen(BaseModel):
    """What all settings of a simulation have in common: they never change, and none is misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineCost(Frozen):
    """An engine call of so many rows and steps takes call + row * rows + step * steps + row_step * rows * steps.

    That is on a core of its own; noise is the standard deviation of the logarithm of what a call takes against that.
    """

    call: float = Field(ge=0, description="seconds of any call")
    row: float = Field(0.0, ge=0, description="seconds that each row adds")
    step: float = Field(ge=0, description="seconds of a step of the longest row")
    row_step: float = Field(gt=0, description="seconds that each row adds to a step")
    noise: float = Field(0.0, ge=0, le=1)

    def seconds(self, rows: int, steps: int) -> float:
        """Return what a call takes without noise."""
        return self.call + rows * self.row + steps * (self.step + rows * self.row_step)


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
