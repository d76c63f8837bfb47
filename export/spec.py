"""What the user asks for: the model, its inputs with named axes, and names; from flags, a YAML file or both."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from export.errors import ExportError
from serving.manifest import BATCH, NAME_PATTERN, TIME, Datatype, Dimension, Tensor

LENGTHS = "lengths"
"""The graph's input of real lengths, int64[batch] (steps)."""
STATE = "state"
NEXT_STATE = "next_state"
RESERVED = frozenset({LENGTHS, STATE, NEXT_STATE})
DATATYPES: dict[str, Datatype] = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
INPUT_FORM = 'NAME:DTYPE[AXES], for example "x:float32[batch,time,12]"'
CTC_FORM = "OUTPUT=SYMBOLS_FILE, for example log_probs=symbols.txt"
_INPUT = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*:(?P<rest>.*)", re.DOTALL)
_AXES = re.compile(r"\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\[\]]*)\]\s*")


class ModelInput(BaseModel):
    """One tensor argument of `forward`, with its axes in the order in which `forward` takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    datatype: Datatype
    axes: tuple[Dimension, ...]

    @model_validator(mode="after")
    def _named_axes(self) -> Self:
        if self.axes.count(BATCH) != 1 or self.axes.count(TIME) > 1:
            raise ValueError(f"the axes of '{self.name}' need 'batch' once and may have 'time' once, got {self.axes}")
        if self.name in RESERVED:
            raise ValueError(
                f"'{self.name}' is a name that the exporter adds itself; rename forward's parameter, or give the one "
                "that takes the lengths with --lengths-argument"
            )
        return self

    @property
    def boundary_order(self) -> tuple[int, ...]:
        """Indices into `axes` in the artefact's order: batch, time if there is one, then the others as they stand."""
        return boundary_order(self.axes)

    @property
    def tensor(self) -> Tensor:
        """The manifest's description of this input, batch-first."""
        return Tensor(
            name=self.name, datatype=self.datatype, shape=tuple(self.axes[axis] for axis in self.boundary_order)
        )


def boundary_order(axes: tuple[Dimension, ...]) -> tuple[int, ...]:
    """Return the permutation that puts `batch` first and `time` second and keeps the order of the rest."""
    return tuple(sorted(range(len(axes)), key=lambda axis: {BATCH: 0, TIME: 1}.get(str(axes[axis]), 2)))


def parse_input(text: str) -> ModelInput:
    """Parse one `--input`, such as `x:float32[batch,time,12]`.

    Raises:
        ExportError: not of that form, an unknown dtype, or axes without `batch`.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise ExportError(f"input {text!r} is not of the form {INPUT_FORM}")
    return _parse_axes(match["name"], match["rest"])


def _parse_axes(name: str, text: str) -> ModelInput:
    match = _AXES.fullmatch(text)
    if match is None:
        raise ExportError(f"input '{name}': {text!r} is not of the form {INPUT_FORM}")
    if match["dtype"] not in DATATYPES:
        raise ExportError(f"input '{name}': dtype {match['dtype']!r} is not supported; use one of {list(DATATYPES)}")
    axes = [axis.strip() for axis in match["axes"].split(",")]
    try:
        return ModelInput(
            name=name,
            datatype=DATATYPES[match["dtype"]],
            axes=tuple(int(axis) if axis.isdecimal() else axis for axis in axes),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise ExportError(
            f"input '{name}': {problem['msg'].removeprefix('Value error, ')} (axes [{', '.join(axes)}]); "
            "an axis is 'batch', 'time' or a number above 0"
        ) from error


def _inputs_of(value: Any) -> Any:  # noqa: ANN401  what YAML gave; pydantic checks the rest
    if isinstance(value, dict):
        return tuple(_parse_axes(str(name), str(text)) for name, text in value.items())
    return value


class Ctc(BaseModel):
    """What the user says of a CTC output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str
    """Name of the output that holds the log-probabilities."""
    symbols: Path
    """Text file of one symbol per line, in the order of the classes, the blank's line included."""
    blank: int = Field(0, ge=0)
    beam_width: int = Field(16, ge=1, le=1024)


def parse_ctc(text: str) -> dict[str, str]:
    """Parse `--ctc`, such as `log_probs=symbols.txt`.

    Raises:
        ExportError: not of that form.
    """
    output, _, file = text.partition("=")
    if not output or not file:
        raise ExportError(f"--ctc {text!r} is not of the form {CTC_FORM}")
    return {"output": output, "symbols": file}


class ExportSpec(BaseModel):
    """All that `lstm-export torch` needs to know; in YAML, `inputs` maps names to `float32[batch,time,12]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    weights: Path
    name: str = Field(pattern=NAME_PATTERN)
    inputs: Annotated[tuple[ModelInput, ...], BeforeValidator(_inputs_of)] = Field(min_length=1)
    outputs: tuple[str, ...] | None = None
    lengths_argument: str | None = None
    ctc: Ctc | None = None

    @field_validator("inputs")
    @classmethod
    def _some_time(cls, inputs: tuple[ModelInput, ...]) -> tuple[ModelInput, ...]:
        names = [model_input.name for model_input in inputs]
        if len(set(names)) != len(names):
            raise ValueError(f"input names must differ, got {names}")
        if not any(TIME in model_input.axes for model_input in inputs):
            raise ValueError("no input has the axis 'time'; a sequence is [batch,time,...]")
        return inputs


def make_spec(path: Path | None, flags: dict[str, Any]) -> ExportSpec:
    """Merge the YAML file, if there is one, with the flags that were given (not None); flags win, key by key.

    Raises:
        ExportError: the file cannot be read, has an unknown key, or something is missing or of the wrong form.
    """
    content: dict[str, Any] = {}
    if path is not None:
        content = _read_yaml(path)
    for key, value in flags.items():
        section = content.get(key)
        if isinstance(section, dict) and isinstance(value, dict):
            content[key] = section | value
        elif value is not None:
            content[key] = value
    try:
        return ExportSpec.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        where = f"{path}: " if path is not None else ""
        raise ExportError(
            f"{where}'{key}': {problem['msg'].removeprefix('Value error, ')}; the keys are "
            f"{', '.join(ExportSpec.model_fields)} (flags of the same names, MODULE:FACTORY for 'factory')"
        ) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path}: expected a mapping with the keys {', '.join(ExportSpec.model_fields)}")
    return content
