"""Parts of requests to one padded batch, and answers back. Numpy only; knows no threads, engine or wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.manifest import BATCH, TIME, Manifest, Tensor

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The checked tensors of one request.

    Attributes:
        inputs: by name, dtype[rows, ...] or dtype[rows, time, ...]; `time` is the same in all of them.
        lengths: int64[rows], real steps of each row, 1 <= length <= time.
        time: size of the time axis as the client sent it (steps); answers that follow time have it again.
        state: float32[rows, S] to go on from, of a stepwise model; None starts every row from zeros.
    """

    inputs: Arrays
    lengths: NDArray[np.int64]
    time: int
    state: NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """Sequences in this request."""
        return len(self.lengths)


class Answer:
    """One request's answer in the making: outputs and states fill up as its rows are run, in one call or in many.

    Attributes:
        request: what is answered.
        outputs: by name, dtype[rows, ...] or dtype[rows, time, ...], zero beyond each row's length; whole once every
            step of every row has been scattered. With a stepwise model's next state, float32[rows, S].
        states: float32[rows, S], what each row has come to, of a stepwise model.
    """

    __slots__ = ("outputs", "request", "states")

    def __init__(self, manifest: Manifest, request: Rows) -> None:
        self.request = request
        self.outputs: dict[str, Array] = {}
        if request.rows > 1:  # instances may scatter into different rows at once, so none may be the one that allocates
            for tensor in manifest.outputs:
                self.outputs[tensor.name] = np.zeros(_shape(tensor, request), tensor.dtype)
        self.states: NDArray[np.float32] | None = None
        if manifest.state is not None:
            size = (request.rows, manifest.state.size)
            self.states = np.zeros(size, np.float32) if request.state is None else request.state.copy()
            self.outputs[manifest.state.output] = self.states

    def whole(self) -> list["Part"]:
        """Return all steps of all rows."""
        return [Part(self, row, 0, length) for row, length in enumerate(self.request.lengths.tolist())]


class Part(NamedTuple):
    """Steps `start` up to `stop` (exclusive) of one row of a request."""

    answer: Answer
    row: int
    start: int
    stop: int


def pack(manifest: Manifest, parts: Sequence[Part]) -> dict[str, Array]:
    """Lay parts below each other, zero-padded at the end of time, as the graph takes them.

    Returns:
        The graph's feed: every input as dtype[B, steps of the longest part, ...] (or dtype[B, ...]), the lengths
        int64[B], and for a stepwise model the states that rows have come to, float32[B, S]. In the order of the parts.
    """
    lengths = np.array([part.stop - part.start for part in parts], np.int64)
    steps = int(lengths.max())
    feed = {tensor.name: _pack_input(tensor, parts, steps) for tensor in manifest.inputs}
    if manifest.lengths_input is not None:
        feed[manifest.lengths_input] = lengths
    if manifest.state is not None:
        states = np.empty((len(parts), manifest.state.size), np.float32)
        for position, (answer, row, _, _) in enumerate(parts):
            states[position] = answer.states[row]  # type: ignore[index]  # a stepwise model's answer has states
        feed[manifest.state.input] = states
    return feed


def scatter(manifest: Manifest, outputs: Arrays, parts: Sequence[Part]) -> None:
    """Move the outputs of a packed batch into the answers that its parts belong to.

    An output that does not follow time is taken from a row's last part; steps beyond a row's length stay zero, whatever
    the engine left there.

    Raises:
        ValueError: an output has another number of rows or steps than went in. That is the model's fault or ours: rows
            must never reach another caller.
    """
    steps = max(part.stop - part.start for part in parts)
    for tensor in graph_outputs(manifest):
        values = outputs[tensor.name]
        if values.shape[0] != len(parts) or (tensor.follows_time and values.shape[1] != steps):
            raise ValueError(
                f"output '{tensor.name}' has shape {values.shape}; {len(parts)} rows of {steps} steps went in"
            )
    for tensor in manifest.outputs:
        if tensor.follows_time:
            _scatter_steps(tensor, outputs[tensor.name], parts)
        else:
            _scatter_last(tensor.name, outputs[tensor.name], parts)
    if manifest.state is not None:
        states = outputs[manifest.state.output]
        for position, (answer, row, _, _) in enumerate(parts):
            answer.states[row] = states[position]  # type: ignore[index]  # as in pack


def graph_outputs(manifest: Manifest) -> tuple[Tensor, ...]:
    """Return all that the graph gives: the outputs, then a stepwise model's next state, FP32 [batch, S]."""
    if manifest.state is None:
        return manifest.outputs
    state = Tensor(name=manifest.state.output, datatype="FP32", shape=(BATCH, manifest.state.size))
    return (*manifest.outputs, state)


def _pack_input(tensor: Tensor, parts: Sequence[Part], steps: int) -> Array:
    name = tensor.name
    if len(parts) == 1:
        (answer, row, start, stop) = parts[0]
        only = answer.request.inputs[name][row : row + 1]
        return only[:, start:stop] if tensor.follows_time else only
    if not tensor.follows_time:
        return np.stack([part.answer.request.inputs[name][part.row] for part in parts])
    tail = parts[0].answer.request.inputs[name].shape[2:]
    packed = np.zeros((len(parts), steps, *tail), tensor.dtype)
    for position, (answer, row, start, stop) in enumerate(parts):
        packed[position, : stop - start] = answer.request.inputs[name][row, start:stop]
    return packed


def _shape(tensor: Tensor, request: Rows) -> list[int]:
    sizes = {BATCH: request.rows, TIME: request.time}
    return [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape]


def _scatter_steps(tensor: Tensor, values: Array, parts: Sequence[Part]) -> None:
    for position, (answer, row, start, stop) in enumerate(parts):
        request = answer.request
        if start == 0 and stop == request.time and len(request.lengths) == 1:
            answer.outputs[tensor.name] = values[position : position + 1, :stop]  # all of the answer: no copy
            continue
        if tensor.name not in answer.outputs:
            answer.outputs[tensor.name] = np.zeros(_shape(tensor, request), tensor.dtype)
        answer.outputs[tensor.name][row, start:stop] = values[position, : stop - start]


def _scatter_last(name: str, values: Array, parts: Sequence[Part]) -> None:
    for position, (answer, row, _, stop) in enumerate(parts):
        lengths = answer.request.lengths
        if stop != lengths[row]:
            continue
        if len(lengths) == 1:
            answer.outputs[name] = values[position : position + 1]
        else:
            answer.outputs[name][row] = values[position]
