"""What each input of the file is: a tensor with named axes, or the rows' lengths; as the user says it, or guessed."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from export.errors import ExportError
from export.onnx_file.evaluate import reads
from export.onnx_file.frozen import INITIAL, SEQUENCE_LENS
from export.onnx_file.reading import RECURRENT, inputs_of
from export.onnx_file.reshape import Frozen
from export.spec import ModelInput, boundary_order
from serving.manifest import BATCH, NUMPY_DTYPES, TIME, Datatype, Dimension, Tensor

FORM = 'give it with --input, for example "x:float32[batch,time,12]", axes in the order of the file'
LENGTHS_NAME = re.compile(r"len", re.IGNORECASE)
DATATYPE: dict[int, Datatype] = {TensorProto.FLOAT: "FP32", TensorProto.INT32: "INT32", TensorProto.INT64: "INT64"}
MAX_GUESSES = 60
"""Readings of the inputs that are tried; each costs a run of every node at three sizes."""
AXES = ((0, 1), (1, 0), (0, 2), (0, None), (1, None))
"""Where batch and time may stand, likelier ones first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """One input of the file.

    Attributes:
        axes: in the file's order; empty for the lengths.
        sizes: what the file says of the axes: a number, a name, or None.
        initial: it does nothing but give recurrent nodes their initial states.
        declared: the user said what it is.
    """

    name: str
    datatype: Datatype
    axes: tuple[Dimension, ...]
    sizes: tuple[int | str | None, ...]
    initial: bool = False
    declared: bool = False

    @property
    def is_lengths(self) -> bool:
        """Whether it takes the steps of each row."""
        return not self.axes

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the file takes."""
        return NUMPY_DTYPES[self.datatype]

    @property
    def order(self) -> tuple[int, ...]:
        """Indices into the file's axes in the artefact's order."""
        return boundary_order(self.axes)

    @property
    def tensor(self) -> Tensor:
        """The manifest's description, batch-first."""
        return Tensor(name=self.name, datatype=self.datatype, shape=tuple(self.axes[axis] for axis in self.order))

    def frozen(self, axis: str) -> int | None:
        """Return the file's number for batch or time; None if it leaves it free."""
        sizes = [size for size, name in zip(self.sizes, self.axes, strict=True) if name == axis]
        return next((size for size in sizes if isinstance(size, int)), None)


Plan = tuple[FileInput, ...]


def plans(model: ModelProto, declared: Sequence[ModelInput] | None) -> Iterator[tuple[Plan, Frozen]]:
    """Yield what the inputs may be, likeliest first, with the numbers that batch and time have in the file.

    Raises:
        ExportError: declared inputs are not those of the file.
    """
    file_inputs = inputs_of(model.graph)
    by_name = {item.name: item for item in declared or ()}
    unknown = sorted(by_name.keys() - {value.name for value in file_inputs})
    if unknown:
        raise ExportError(f"the file has no input {unknown}; its inputs are {[_show(value) for value in file_inputs]}")
    lengths, initial = _feeding(model, (SEQUENCE_LENS,)), _feeding(model, INITIAL) - _feeding(model, (0,))
    options = []
    for value in file_inputs:
        if value.name in by_name:
            options.append([_declared(value, by_name[value.name])])
        else:
            guesses = list(_guesses(value, lengths=value.name in lengths, initial=value.name in initial))
            helping = [guess for guess in guesses if guess.is_lengths or guess.initial]
            if declared is not None and not helping:
                raise ExportError(f"input {_show(value)} of the file is not declared; {FORM}")
            options.append(helping or guesses)
    yield from _consistent(options)


def _consistent(options: list[list[FileInput]]) -> Iterator[tuple[Plan, Frozen]]:
    problem = "no input can be [batch, time, ...]"
    found = 0
    for plan in product(*options):
        numbers = {axis: {item.frozen(axis) for item in plan} - {None} for axis in (BATCH, TIME)}
        if not any(TIME in item.axes for item in plan):
            continue
        rows, steps = (_symbols(plan, axis) for axis in (BATCH, TIME))
        if len(rows) > 1 or rows & steps:
            continue
        if len(steps) > 1:
            problem = (
                f"the file has several axes of time: {sorted(steps)}; an artefact has one. If they are always of one "
                "size, say so"
            )
            continue
        if any(len(sizes) > 1 for sizes in numbers.values()) or found == MAX_GUESSES:
            continue
        found += 1
        batch, time = (next(iter(numbers[axis]), None) for axis in (BATCH, TIME))
        yield plan, Frozen(batch, time)
        if batch is None:
            yield plan, Frozen(1, time)  # traced with one row, and called free all the same
    if not found:
        raise ExportError(f"{problem}; {FORM}")


def _symbols(plan: Plan, axis: str) -> set[str]:
    """Return what the file calls batch or time, less the names that torch makes up for each axis of its own."""
    sizes = {
        size
        for item in plan
        if not item.declared
        for size, name in zip(item.sizes, item.axes, strict=True)
        if name == axis
    }
    return {size for size in sizes if isinstance(size, str) and "dynamic_axes" not in size}


def _guesses(value: ValueInfoProto, *, lengths: bool, initial: bool) -> Iterator[FileInput]:
    sizes = sizes_of(value)
    datatype = DATATYPE[value.type.tensor_type.elem_type]
    integer = datatype != "FP32"
    if integer and len(sizes) == 1 and (lengths or LENGTHS_NAME.search(value.name)):
        yield FileInput(name=value.name, datatype=datatype, axes=(), sizes=())
        return
    for batch, time in AXES:
        if initial and time is not None:
            continue
        axes: list[Dimension | None] = [size if isinstance(size, int) and size > 0 else None for size in sizes]
        for axis, name in ((batch, BATCH), (time, TIME)):
            if axis is not None and axis < len(axes):
                axes[axis] = name  # type: ignore[call-overload]  # one of the two literals
        known = tuple(axis for axis in axes if axis is not None)
        if len(known) == len(axes) and BATCH in known and (time is None) == (TIME not in known) and known:
            yield FileInput(name=value.name, datatype=datatype, axes=known, sizes=sizes, initial=initial)


def _declared(value: ValueInfoProto, item: ModelInput) -> FileInput:
    sizes = sizes_of(value)
    datatype = DATATYPE[value.type.tensor_type.elem_type]
    fits = len(sizes) == len(item.axes) and all(
        not isinstance(size, int) or not isinstance(axis, int) or size == axis
        for size, axis in zip(sizes, item.axes, strict=True)
    )
    if item.datatype != datatype or not fits:
        axes = ",".join(map(str, item.axes))
        raise ExportError(f"input '{item.name}' is declared {item.datatype}[{axes}]; the file has {_show(value)}")
    return FileInput(name=item.name, datatype=datatype, axes=item.axes, sizes=sizes, declared=True)


def sizes_of(value: ValueInfoProto) -> tuple[int | str | None, ...]:
    """Return the axes that the file gives: a number, a name, or None for one that it leaves open."""
    dims = value.type.tensor_type.shape.dim
    return tuple((dim.dim_value if dim.dim_value > 0 else None) if not dim.dim_param else dim.dim_param for dim in dims)


def _show(value: ValueInfoProto) -> str:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    return f"{value.name}:{kind}[{','.join('?' if size is None else str(size) for size in sizes_of(value))}]"


def _feeding(model: ModelProto, slots: tuple[int, ...]) -> set[str]:
    """Return the names of inputs whose numbers reach these inputs of recurrent nodes without passing through one."""
    makers: dict[str, NodeProto] = {name: node for node in model.graph.node for name in node.output}
    waiting = [
        node.input[slot]
        for node in model.graph.node
        if node.op_type in RECURRENT
        for slot in slots
        if slot < len(node.input) and node.input[slot]
    ]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        maker = makers.get(name)
        if maker is not None and maker.op_type not in {*RECURRENT, "Shape"}:
            waiting += reads(maker)
    return seen
