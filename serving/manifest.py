"""The artefact's description: `manifest.json`, written by the exporter and never changed.

Shared by `lstm-export` and `lstm-serve`; knows neither torch nor onnxruntime.

    models/<name>/model.yaml                 edited by operators; optional (`serving/policy.py`)
    models/<name>/<version>/model.onnx       immutable
    models/<name>/<version>/native/          immutable; what the native INT8 engine runs, of versions that have it
    models/<name>/<version>/manifest.json    immutable
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from serving.errors import ArtifactError
from serving.external_data import check_self_contained
from serving.plan import NATIVE_DIRECTORY, Plan

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
ONNX_SUFFIX = ".onnx"
BATCH = "batch"
TIME = "time"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Datatype = Literal["FP32", "INT32", "INT64"]
NUMPY_DTYPES: dict[Datatype, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
Dimension = Annotated[int, Field(ge=1)] | Literal["batch", "time"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Frozen):
    """One input or output of the model.

    `shape` names the axes: axis 0 is always `batch` (rows); axis 1 may be `time` (steps); every other axis is a number.
    """

    name: str = Field(min_length=1)
    datatype: Datatype
    shape: tuple[Dimension, ...] = Field(min_length=1)
    vocabulary: int | None = Field(None, ge=1)
    """Rows of the smallest table that an integer input indexes: its values are 0 to `vocabulary - 1`; None if free."""

    @model_validator(mode="after")
    def _axes(self) -> Self:
        if self.shape[0] != BATCH:
            raise ValueError(f"tensor '{self.name}': axis 0 must be 'batch', got {self.shape[0]!r}")
        if BATCH in self.shape[1:] or TIME in self.shape[2:]:
            raise ValueError(f"tensor '{self.name}': 'batch' may stand at axis 0 only and 'time' at axis 1 only")
        if self.vocabulary is not None and self.datatype == "FP32":
            raise ValueError(f"tensor '{self.name}': only integers index a table, so FP32 has no vocabulary")
        return self

    @property
    def follows_time(self) -> bool:
        """True if axis 1 is time, so that a row's part is as long as the row."""
        return len(self.shape) > 1 and self.shape[1] == TIME

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian numpy dtype of the wire and of the engine."""
        return NUMPY_DTYPES[self.datatype]


class State(_Frozen):
    """How a stepwise model's recurrent state enters and leaves the graph: one FP32 tensor [batch, size] each way."""

    input: str
    output: str
    size: int = Field(ge=1)


class Int8(_Frozen):
    """What quantization did: nodes turned to INT8 of those that have an INT8 form in this engine."""

    engine: Literal["onnxruntime", "native"]
    """Which of the version's forms to prefer: `model.onnx`, or the parts of its native plan."""
    per_channel: bool
    reduce_range: bool
    quantized_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...] = ()
    source_version: int = Field(ge=1)


class CtcDecoding(_Frozen):
    """Text that the server decodes from an output of CTC log-probabilities, FP32 [batch, time, symbols].

    A decoded output is answered as BYTES [batch], UTF-8, beside the graph's own.
    """

    name: str = Field(min_length=1)
    """Of the decoded output."""
    source: str
    """Name of the graph's output that holds the log-probabilities."""
    method: Literal["greedy", "beam"]
    symbols: tuple[str, ...] = Field(min_length=2)
    """Text of each class, in order; that of the blank is ignored."""
    blank: int = Field(0, ge=0)
    beam_width: int = Field(16, ge=1, le=1024)
    """Prefixes kept at each step; for `beam`."""


class Proof(_Frozen):
    """One check that the exporter ran. `measured` holds its numbers, `limit` what decided (None: reported only)."""

    name: str
    passed: bool
    measured: dict[str, float | int | str]
    limit: dict[str, float] | None = None


class ModelFile(_Frozen):
    """The ONNX file and what it must hash to."""

    name: Literal["model.onnx"] = "model.onnx"
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class Manifest(_Frozen):
    """All that the server needs to know of one model version, and the proofs that came with it."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)
    precision: Literal["fp32", "fp16", "int8"]
    """`fp16`: recurrent layers and heads compute in half precision on a GPU; inputs and outputs stay FP32.

    Recurrent layers may have stayed FP32 as well; the notes say so.
    """
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    lengths_input: str | None
    """Name of the graph's int64[batch] input of real lengths (steps); None only if `equal_lengths`."""
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    stepwise: bool
    state: State | None = None
    equal_lengths: bool = False
    """True: padding would change answers, so a row may only share a batch with rows of its own length."""
    input_range: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(default_factory=dict)
    """Smallest and largest value of each float input on the calibration data, if real data was given."""
    int8: Int8 | None = None
    native: Plan | None = None
    """How the native engine runs the version; `model.onnx` is what every other place runs."""
    decodings: tuple[CtcDecoding, ...] = ()
    file: ModelFile
    proofs: tuple[Proof, ...]
    warnings: tuple[str, ...] = ()
    """What a reader must not miss, in sentences."""
    notes: tuple[str, ...] = ()
    """How the model was exported, in sentences."""
    forced: bool = False
    """True if a check failed and the user had the artefact written all the same."""
    tools: dict[str, str]
    """Versions of what made the file: torch, onnx, onnxruntime, ..."""
    source: dict[str, str] = Field(default_factory=dict)
    """Where it came from: factory, weights file and its sha256."""
    created: str

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [t.name for t in (*self.inputs, *self.outputs)]
        names += [] if self.lengths_input is None else [self.lengths_input]
        names += [] if self.state is None else [self.state.input, self.state.output]
        if len(set(names)) != len(names):
            raise ValueError(f"tensor names must differ, got {names}")
        if not any(t.follows_time for t in self.inputs):
            raise ValueError("no input follows time: at least one needs the shape [batch, time, ...]")
        if self.stepwise != (self.state is not None):
            raise ValueError("a stepwise model has a state, and no other has one")
        if self.lengths_input is None and not self.equal_lengths:
            raise ValueError("a model without a lengths input must be marked equal_lengths")
        if (self.precision == "int8") != (self.int8 is not None):
            raise ValueError("precision int8 comes with the section 'int8', and no other precision does")
        for decoding in self.decodings:
            self._check_decoding(decoding, names)
            names.append(decoding.name)
        self._check_native()
        return self

    @property
    def graph_inputs(self) -> frozenset[str]:
        """Names of all that `model.onnx` is fed: the inputs, the lengths, and a stepwise model's state."""
        names = [tensor.name for tensor in self.inputs]
        names += [] if self.lengths_input is None else [self.lengths_input]
        return frozenset([*names, *([] if self.state is None else [self.state.input])])

    @property
    def graph_outputs(self) -> frozenset[str]:
        """Names of all that `model.onnx` computes: the outputs, and a stepwise model's next state."""
        names = [tensor.name for tensor in self.outputs]
        return frozenset([*names, *([] if self.state is None else [self.state.output])])

    def _check_native(self) -> None:
        if self.native is None:
            if self.int8 is not None and self.int8.engine == "native":
                raise ValueError("int8.engine is 'native', so the section 'native' must say how that engine runs it")
            return
        if self.int8 is None:
            raise ValueError("the section 'native' comes with precision int8 only")
        unknown = set(self.native.inputs) - self.graph_inputs
        unmade = self.graph_outputs - set(self.native.outputs)
        if unknown or unmade:
            raise ValueError(
                f"the native plan reads {sorted(unknown)}, which are no inputs, and does not make the outputs "
                f"{sorted(unmade)}"
            )

    def _check_decoding(self, decoding: CtcDecoding, taken: list[str]) -> None:
        source = next((tensor for tensor in self.outputs if tensor.name == decoding.source), None)
        expected = (BATCH, TIME, len(decoding.symbols))
        if source is None or source.datatype != "FP32" or source.shape != expected:
            found = [(tensor.name, tensor.datatype, tensor.shape) for tensor in self.outputs]
            raise ValueError(
                f"decoding '{decoding.name}' needs an output '{decoding.source}' of FP32 {list(expected)}, one class "
                f"per symbol; the outputs are {found}"
            )
        if decoding.blank >= len(decoding.symbols):
            raise ValueError(f"decoding '{decoding.name}': blank {decoding.blank} is none of its symbols")
        if decoding.name in taken:
            raise ValueError(f"decoding '{decoding.name}' has the name of another tensor")

    def write(self, directory: Path) -> None:
        """Write `manifest.json` into the version's folder."""
        (directory / MANIFEST_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifest of the version in `directory`, and all files of the version against their checksums.

    Raises:
        ArtifactError: a file is missing or unreadable, the manifest is invalid or of another format, folder names
            disagree with it, or `model.onnx`, or a file of the native plan, is not the one that was proven or leaves
            tensors to further files.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    except ValidationError as error:
        raise ArtifactError(f"{path}: {first_problem(error)}") from error
    if (directory.parent.name, directory.name) != (manifest.name, str(manifest.version)):
        raise ArtifactError(
            f"{path}: describes {manifest.name}/{manifest.version}, but lies in "
            f"{directory.parent.name}/{directory.name}; folders must not be renamed or copied under another name"
        )
    _check_file(directory / manifest.file.name, manifest.file.sha256)
    for file in () if manifest.native is None else manifest.native.files:
        _check_file(directory / NATIVE_DIRECTORY / file.name, file.sha256)
    return manifest


def _check_file(path: Path, sha256: str) -> None:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    if digest != sha256:
        raise ArtifactError(
            f"{path}: sha256 is {digest}, the manifest says {sha256}: the file was changed or damaged "
            "after its proofs were made; export it again"
        )
    if path.suffix == ONNX_SUFFIX:
        check_self_contained(path)


def is_model_name(name: str) -> bool:
    """Return whether `name` may be a model's name (and so a folder's)."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def first_problem(error: ValidationError) -> str:
    """Return where the first mistake is, what is wrong with it, and what was found."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    return f"{where}: {problem['msg']} (got {problem['input']!r:.80})"
