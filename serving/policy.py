"""`model.yaml` in a model's folder: what operators decide about how it is served. Written by hand."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import ArtifactError
from serving.manifest import first_problem
from serving.strict_yaml import load_yaml

POLICY_FILE = "model.yaml"


class Latest(BaseModel):
    """The newest versions of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: int = Field(ge=1)


VersionNumber = Annotated[int, Field(ge=1)]


class Policy(BaseModel):
    """`model.yaml`: what operators decide for all versions of a model; optional, and so is every field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: Literal["all"] | Latest | tuple[VersionNumber, ...] = Field(
        "all",
        description="versions that serve: all, or `{latest: 2}` for so many of the newest good ones, or a list of "
        "numbers",
    )
    batching: Literal["auto", "fifo"] = Field(
        "auto",
        description="auto: chunks of steps for a stepwise model, similar lengths together for others; fifo: order of "
        "arrival, padded to the longest, as a plain batcher does",
    )
    max_batch_rows: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="rows that one engine call takes at most; by default learned from what they cost",
    )
    chunk_steps: int | None = Field(
        None, ge=1, description="steps that one engine call of a stepwise model runs; by default learned from `tick_ms`"
    )
    tick_ms: float = Field(
        25.0, gt=0, description="how long an engine call of a stepwise model should take: newcomers join after each"
    )
    instances: int = Field(
        1, ge=1, le=64, description="engine calls of the model at a time, each with its share of threads"
    )
    default_priority: int = Field(5, ge=1, le=9, description="priority of a request that brings none; 1 goes first")
    priority_step_ms: float = Field(
        100.0, ge=0, description="a level of priority weighs as much as having arrived this much earlier"
    )
    max_request_rows: int = Field(256, ge=1, le=65536, description="rows that one request may have")
    max_steps: int = Field(4096, ge=1, description="steps that a row may have")
    max_queue_rows: int = Field(1024, ge=1, description="rows that may wait; what comes beyond is refused at once")
    default_timeout_ms: int | None = Field(None, ge=1, description="deadline of a request that brings none")
    out_of_range: Literal["clip", "refuse", "allow"] = Field(
        "clip",
        description="what happens to values outside the calibrated input range of an INT8 model, whose activation "
        "scales they would stretch for every row of the batch",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_queue_rows < max(self.max_batch_rows or 1, self.max_request_rows):
            raise ValueError(
                f"max_queue_rows is {self.max_queue_rows}: it must hold one batch ({self.max_batch_rows or 1} rows) "
                f"and one request ({self.max_request_rows} rows) at least"
            )
        return self


def read_policy(directory: Path) -> Policy:
    """Read `model.yaml` in the model's folder; all defaults if there is none.

    Raises:
        ArtifactError: not YAML, an unknown key, or a value out of its range.
    """
    path = directory / POLICY_FILE
    try:
        if not path.exists():
            return Policy.model_validate({})
        content = load_yaml(path.read_text(encoding="utf-8"))
        return Policy.model_validate({} if content is None else content)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ArtifactError(f"{path}: {first_problem(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid YAML: {error}") from error
