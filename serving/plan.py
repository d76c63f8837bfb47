"""How a model runs in parts: onnxruntime computes most of the graph, the native engine its quantized recurrent layers.

Written by `lstm-export quantize` into the manifest, run in order by `serving/engine/native/session.py`. The files lie
in the version's folder, beside `model.onnx`, which holds the whole model in standard operators.

    models/<name>/<version>/native/weights.bin    packed INT8 weights (`serving/engine/native/weights.py`)
    models/<name>/<version>/native/part-0.onnx    what lies between the recurrent layers
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NATIVE_DIRECTORY = "native"
WEIGHTS_FILE = "weights.bin"

Name = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlanFile(_Frozen):
    """A file in the folder `native`, and what it must hash to."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class OnnxPart(_Frozen):
    """A piece of the graph that onnxruntime runs."""

    kind: Literal["onnx"] = "onnx"
    file: PlanFile
    inputs: tuple[Name, ...]
    outputs: tuple[Name, ...] = Field(min_length=1)


class ViewPart(_Frozen):
    """A node that only looks at its tensor in another shape: numpy does it without touching a value.

    `axes`: of Transpose the permutation; of Squeeze and Unsqueeze the axes; of Reshape the shape, where 0 keeps the
    input's axis and -1 is what is left (ONNX operators of the same names); of Slice an axis, its first place, and the
    place after its last, none of them negative.
    """

    kind: Literal["view"] = "view"
    operator: Literal["Transpose", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Identity"]
    input: Name
    output: Name
    axes: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _slice_has_its_ends(self) -> Self:
        if self.operator == "Slice" and (len(self.axes) != 3 or min(self.axes) < 0):
            raise ValueError(
                f"axes of a Slice are {list(self.axes)}, expected an axis, a start and a stop, from zero on"
            )
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it reads."""
        return (self.input,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        return (self.output,)


class ConcatPart(_Frozen):
    """Tensors put together along an axis: a stepwise model's next state."""

    kind: Literal["concat"] = "concat"
    inputs: tuple[Name, ...] = Field(min_length=1)
    output: Name
    axis: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        return (self.output,)


class RecurrentPart(_Frozen):
    """A recurrent operator that the native engine runs; tensors as the ONNX operators LSTM, GRU and RNN have them.

    Attributes:
        node: the operator's name in the FP32 file.
        layer: its place in the weights' file.
        x: FP32 [time, batch, input].
        lengths: INT32 [batch]; None if all rows are as long as time.
        initial_h, initial_c: FP32 [directions, batch, hidden]; None for zeros.
        y: FP32 [time, directions, batch, hidden].
        y_h, y_c: FP32 [directions, batch, hidden].
    """

    kind: Literal["recurrent"] = "recurrent"
    node: Name
    operator: Literal["LSTM", "GRU", "RNN"]
    layer: int = Field(ge=0)
    x: Name
    lengths: Name | None = None
    initial_h: Name | None = None
    initial_c: Name | None = None
    y: Name | None = None
    y_h: Name | None = None
    y_c: Name | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it reads."""
        return tuple(name for name in (self.x, self.lengths, self.initial_h, self.initial_c) if name is not None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        return tuple(name for name in (self.y, self.y_h, self.y_c) if name is not None)


Part = Annotated[OnnxPart | ViewPart | ConcatPart | RecurrentPart, Field(discriminator="kind")]


class Plan(_Frozen):
    """The parts in the order in which they run; each tensor is made before it is read, and by one part only."""

    weights: PlanFile
    parts: tuple[Part, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_tensor_once(self) -> Self:
        made: set[str] = set()
        read: set[str] = set()
        for part in self.parts:
            read.update(part.inputs)
            for name in part.outputs:
                if name in made or name in read:
                    raise ValueError(f"tensor '{name}' is made twice, or after it was read")
                made.add(name)
        if not any(part.kind == "recurrent" for part in self.parts):
            raise ValueError("no part is recurrent: nothing here is for the native engine")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that are read and never made: the model's inputs, less those that nothing reads."""
        made = set(self.outputs)
        return tuple(dict.fromkeys(name for part in self.parts for name in part.inputs if name not in made))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all tensors that are made, in their order; the model's outputs are among them."""
        return tuple(name for part in self.parts for name in part.outputs)

    @property
    def files(self) -> tuple[PlanFile, ...]:
        """All files of the folder `native`."""
        return (self.weights, *(part.file for part in self.parts if isinstance(part, OnnxPart)))
