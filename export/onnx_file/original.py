"""The file as it came, in onnxruntime, as the judge: one row at a time, in the shapes that it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from onnx import ModelProto

from export.data import Data
from export.errors import ExportError
from export.onnx_file.evaluate import FATAL_ONLY, Array, first_line
from export.onnx_file.finish import Candidate
from export.onnx_file.inputs import FileInput, Plan
from export.onnx_file.reshape import Frozen
from export.runtime import Answer, Row
from serving.manifest import BATCH, TIME, Tensor

FIXED_ROWS = 32
"""Rows to compare with when the file takes one length only."""


def open_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """Load a model as it is.

    Raises:
        ExportError: onnxruntime cannot.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ExportError(f"onnxruntime cannot load the file: {first_line(error)}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The unchanged file.

    Attributes:
        plan: what all its inputs are, also those that the artefact does not have.
        frozen: the numbers of rows and steps that it is bound to.
        candidate: whose outputs are to be judged.
    """

    session: onnxruntime.InferenceSession
    plan: Plan
    frozen: Frozen
    candidate: Candidate

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the file's answer to each row alone, axes in the artefact's order, without the batch axis.

        Raises:
            ExportError: the file fails on a row, or answers in another shape than its axes say.
        """
        return [self.answer(row) for row in rows]

    def answer(self, row: Row) -> Answer:
        """Return the file's answer to one row; one bound to some steps that gives its states goes on from them."""
        steps = self.chunk or row.steps
        tensors = self.candidate.model.inputs
        states: dict[str, Array] = {}
        parts = []
        for start in range(0, row.steps, steps):
            results = self._run(row.part(start, start + steps, tensors), states)
            states = {name: results[after] for name, after in self.candidate.carried.items() if after is not None}
            parts.append(results)
        sizes = {BATCH: self.frozen.batch or 1, TIME: steps}
        return {
            tensor.name: _joined([_first_row(part[tensor.name], tensor, order, sizes) for part in parts], tensor)
            for tensor, order in zip(self.candidate.model.outputs, self.candidate.orders, strict=True)
        }

    @property
    def chunk(self) -> int | None:
        """Steps of one run of a file that is bound to them but can go on; None for any other."""
        carried = self.candidate.carried
        return self.frozen.time if carried and all(carried.values()) else None

    @property
    def lengths(self) -> str | None:
        """Which lengths the file takes; None for all."""
        steps = self.frozen.time
        if steps is None or self.chunk == 1:
            return None
        return f"multiples of {steps}" if self.chunk else f"{steps} only"

    def _run(self, row: Row, states: Mapping[str, Array]) -> dict[str, Array]:
        count = self.frozen.batch or 1
        feed = {item.name: self._input(item, row, count) for item in self.plan} | dict(states)
        names = [output.name for output in self.session.get_outputs()]
        try:
            return dict(zip(names, self.session.run(names, feed), strict=True))
        except Exception as error:  # as above
            shapes = {name: list(array.shape) for name, array in feed.items()}
            raise ExportError(f"the file itself fails on inputs of the shapes {shapes}: {first_line(error)}") from error

    def _input(self, item: FileInput, row: Row, count: int) -> Array:
        if item.is_lengths:
            return np.full(count, row.steps, item.dtype)
        if item.name not in row.inputs:  # a state, which starts from zeros
            return np.zeros([count if axis == BATCH else int(axis) for axis in item.axes], item.dtype)
        array = np.repeat(row.inputs[item.name][None], count, axis=0)
        return array.transpose([item.order.index(axis) for axis in range(len(item.order))])

    def rows(self, pool: Sequence[Row], data: Data) -> list[Row]:
        """Return the rows to compare with: the pool, or such as have a length that the file takes."""
        steps, tensors = self.frozen.time, self.candidate.model.inputs
        if steps is None:
            return list(pool)
        longest = max(row.steps for row in pool) if self.chunk else steps
        rows = [row for row in data.rows if row.steps >= steps][:FIXED_ROWS]
        rows = rows or [_repeated(row, steps, tensors) for row in data.rows[:FIXED_ROWS]]
        return [row.part(0, min(longest, row.steps) // steps * steps, tensors) for row in rows]


def _joined(parts: Sequence[Array], tensor: Tensor) -> Array:
    return np.concatenate(parts) if tensor.follows_time else parts[-1]


def _repeated(row: Row, steps: int, tensors: Sequence[Tensor]) -> Row:
    inputs = {}
    for tensor in tensors:
        array = row.inputs[tensor.name]
        inputs[tensor.name] = np.resize(array, (steps, *array.shape[1:])) if tensor.follows_time else array
    return Row(inputs=inputs, steps=steps)


def _first_row(result: Array, tensor: Tensor, order: Sequence[int], sizes: dict[str, int]) -> Array:
    """Return the first row of an output; a file that drops axes of 1 is given them back."""
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
    outer = [shape[list(order).index(axis)] for axis in range(len(order))]
    if result.size != np.prod(outer):
        raise ExportError(
            f"output '{tensor.name}' of the file has shape {list(result.shape)} for one row of {sizes[TIME]} steps; "
            f"expected {outer}"
        )
    row: Array = result.reshape(outer).transpose(order)[0]
    return row
