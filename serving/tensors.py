"""Parts of requests to one padded batch, and answers back. Numpy only; knows no threads, engine or wire.

A batch is put together once per tick from parts of many requests, so what is done per part is done on bytes: a slice of
bytes takes a fraction of what a slice of an array takes, and joining them is one copy for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from serving.batching import Span
from serving.manifest import BATCH, Manifest, Tensor

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
    """One request's answer in the making: it fills up as the request's rows are run, in one call or in many.

    Instances may fill different rows at the same time: every row has places of its own from the start.
    """

    __slots__ = ("inputs", "lasts", "request", "states", "steps")

    def __init__(self, layout: "Layout", request: Rows) -> None:
        """Begin; made by `Layout.answer`."""
        rows = request.rows
        self.request = request
        self.inputs = {name: _bytes_of(request.inputs[name]) for name in layout.inputs}
        self.steps: dict[str, list[list[bytes]]] = {
            name: [[] for _ in range(rows)] for name, output in layout.outputs.items() if output.follows_time
        }
        self.lasts: dict[str, list[bytes]] = {
            name: [b""] * rows for name, output in layout.outputs.items() if not output.follows_time
        }
        self.states: list[bytes] = []
        if layout.state is not None:
            size = layout.state.row_bytes
            sent = None if request.state is None else request.state.tobytes()
            self.states = [bytes(size) if sent is None else sent[row * size : (row + 1) * size] for row in range(rows)]


class Part(NamedTuple):
    """Steps `start` up to `stop` (exclusive) of one row of a request."""

    answer: Answer
    row: int
    start: int
    stop: int


class Keeper(Protocol):
    """Keeps requests, and their answers in the making, outside of Python; a batch's rows are spans of them."""

    def gather(self, rows: "KeptRows", inputs: Sequence[Array], states: Array | None) -> None:
        """Copy spans into a batch, with zeros after each one's end; zeros for those whose request has left.

        Args:
            rows: of the batch.
            inputs: of the batch, in the manifest's order, dtype[rows, steps, ...] or dtype[rows, ...], contiguous.
            states: of the batch, float32[rows, S], of a stepwise model.

        Raises:
            MemoryError: the batch is not whole.
        """

    def scatter(self, rows: "KeptRows", outputs: Sequence[Array], states: Array | None) -> None:
        """Copy what was computed of spans into the answers; arguments as those of `gather`, outputs for inputs."""


class _Field:
    """A tensor's form in bytes.

    Attributes:
        row_bytes: of a row that does not follow time, or of one step of a row that does.
    """

    __slots__ = ("dtype", "follows_time", "name", "row_bytes", "tail")

    def __init__(self, tensor: Tensor) -> None:
        self.name = tensor.name
        self.dtype = tensor.dtype
        self.follows_time = tensor.follows_time
        self.tail = tuple(axis for axis in tensor.shape[2 if tensor.follows_time else 1 :] if isinstance(axis, int))
        self.row_bytes = int(np.prod(self.tail, dtype=np.int64)) * tensor.dtype.itemsize

    def empty(self, rows: int, steps: int) -> Array:
        """Return memory for so many rows, with whatever is in it."""
        return np.empty((rows, steps, *self.tail) if self.follows_time else (rows, *self.tail), self.dtype)


class KeptRows:
    """Which parts of a batch are spans of requests that a keeper has, and which are not.

    Attributes:
        count: of the former.
        spans: int64[count, 4], request, row, first step, last step (exclusive).
        positions: int64[count], their rows in the batch.
        steps: of the whole batch, to which every row is padded.
        others: the rest.
        other_positions: their rows.
    """

    def __init__(self, parts: Sequence["Part | Span"]) -> None:
        """Look at the parts of a batch."""
        spans = [part for part in parts if type(part) is Span]
        self.count = len(spans)
        self.spans = np.array(spans, np.int64)
        self.others: list[Part] = []
        self.other_positions: list[int] = []
        self.positions = np.arange(len(parts))
        self.steps = max(part.stop - part.start for part in parts)
        if 0 < self.count < len(parts):
            kept = [type(part) is Span for part in parts]
            self.positions = np.flatnonzero(kept)
            self.other_positions = np.flatnonzero(np.logical_not(kept)).tolist()
            self.others = [part for part in parts if isinstance(part, Part)]


class Layout:
    """How one model version's tensors lie in memory: packs batches and takes them apart."""

    def __init__(self, manifest: Manifest) -> None:
        self.inputs = {tensor.name: _Field(tensor) for tensor in manifest.inputs}
        self.outputs = {tensor.name: _Field(tensor) for tensor in manifest.outputs}
        self.state: _Field | None = None
        self.produced = dict(self.outputs)
        self.keeper: Keeper | None = None
        """Of the requests whose parts are spans."""
        self._lengths_input = manifest.lengths_input
        self._state_input = ""
        if manifest.state is not None:
            size = manifest.state.size
            self.state = _Field(Tensor(name=manifest.state.output, datatype="FP32", shape=(BATCH, size)))
            self.produced[self.state.name] = self.state
            self._state_input = manifest.state.input

    def answer(self, request: Rows) -> Answer:
        """Begin the answer of a request."""
        return Answer(self, request)

    def pack(self, parts: Sequence[Part | Span]) -> dict[str, Array]:
        """Lay parts below each other, zero-padded at the end of time, as the graph takes them.

        Args:
            parts: of requests; spans of those that the keeper has.

        Returns:
            The graph's feed: every input as dtype[B, steps of the longest part, ...] (or dtype[B, ...]), the lengths
            int64[B], and for a stepwise model the states that rows have come to, float32[B, S]. In the order of the
            parts; read-only.
        """
        kept = KeptRows(parts)
        if not kept.count:
            return self._pack(cast("Sequence[Part]", parts))
        feed = {name: field.empty(len(parts), kept.steps) for name, field in self.inputs.items()}
        states = None if self.state is None else self.state.empty(len(parts), kept.steps)
        assert self.keeper is not None, "spans are of requests that it keeps"
        self.keeper.gather(kept, list(feed.values()), states)
        if self._lengths_input is not None:
            feed[self._lengths_input] = np.array([part.stop - part.start for part in parts], np.int64)
        if states is not None:
            feed[self._state_input] = states
        if kept.others:
            self._pack_others(feed, kept)
        return feed

    def _pack_others(self, feed: dict[str, Array], kept: KeptRows) -> None:
        """Fill the rows of a batch whose requests are not kept elsewhere."""
        for name, values in self._pack(kept.others).items():
            if name in self.inputs and self.inputs[name].follows_time:
                feed[name][kept.other_positions, : values.shape[1]] = values
                feed[name][kept.other_positions, values.shape[1] :] = 0
            else:
                feed[name][kept.other_positions] = values

    def _pack(self, parts: Sequence[Part]) -> dict[str, Array]:
        lengths = [part.stop - part.start for part in parts]
        steps = max(lengths)
        feed = {
            name: self._pack_steps(field, parts, steps) if field.follows_time else _pack_rows(field, parts)
            for name, field in self.inputs.items()
        }
        if self._lengths_input is not None:
            feed[self._lengths_input] = np.array(lengths, np.int64)
        if self.state is not None:
            states = b"".join([part.answer.states[part.row] for part in parts])
            feed[self._state_input] = np.frombuffer(states, np.float32).reshape(len(parts), -1)
        return feed

    def scatter(self, outputs: Arrays, parts: Sequence[Part | Span]) -> None:
        """Move the outputs of a packed batch into the answers that its parts belong to.

        An output that does not follow time is taken from a row's last part; what the engine left beyond a row's steps
        is dropped.

        Raises:
            ValueError: an output has another number of rows or steps than went in, or another type than the manifest
                says. That is the model's fault or ours: rows must never reach another caller.
        """
        kept = KeptRows(parts)
        steps = kept.steps
        for name, field in self.produced.items():
            values = outputs[name]
            expected = (len(parts), steps, *field.tail) if field.follows_time else (len(parts), *field.tail)
            if values.shape != expected or values.dtype != field.dtype:
                raise ValueError(
                    f"output '{name}' is {values.dtype} {values.shape}; {len(parts)} rows of {steps} steps went in, so "
                    f"{field.dtype} {expected} must come out"
                )
        if not kept.count:
            self._scatter(outputs, cast("Sequence[Part]", parts), steps)
            return
        assert self.keeper is not None, "spans are of requests that it keeps"
        whole = [np.ascontiguousarray(outputs[name]) for name in self.outputs]
        states = None if self.state is None else np.ascontiguousarray(outputs[self.state.name])
        self.keeper.scatter(kept, whole, states)
        if kept.others:
            rows = {name: outputs[name][kept.other_positions] for name in self.produced}
            self._scatter(rows, kept.others, steps)

    def _scatter(self, outputs: Arrays, parts: Sequence[Part], steps: int) -> None:
        for name, field in self.outputs.items():
            content = _bytes_of(outputs[name])
            if field.follows_time:
                _scatter_steps(field, content, parts, steps)
            else:
                _scatter_lasts(field, content, parts)
        if self.state is not None:
            content, size = _bytes_of(outputs[self.state.name]), self.state.row_bytes
            for position, (answer, row, _, _) in enumerate(parts):
                answer.states[row] = bytes(content[position * size : (position + 1) * size])

    def outputs_of(self, answer: Answer) -> dict[str, Array]:
        """Return a whole answer: every step of every row has been scattered.

        Returns:
            By name, dtype[rows, ...] or dtype[rows, time, ...], zero beyond each row's length; a stepwise model's next
            state as well, float32[rows, S]. Read-only.
        """
        rows, time = answer.request.rows, answer.request.time
        whole: dict[str, Array] = {}
        for name, pieces in answer.steps.items():
            field = self.outputs[name]
            row_bytes = time * field.row_bytes
            content = b"".join([b"".join(row).ljust(row_bytes, b"\0") for row in pieces])
            whole[name] = np.frombuffer(content, field.dtype).reshape(rows, time, *field.tail)
        for name, lasts in answer.lasts.items():
            field = self.outputs[name]
            whole[name] = np.frombuffer(b"".join(lasts), field.dtype).reshape(rows, *field.tail)
        if self.state is not None:
            states = np.frombuffer(b"".join(answer.states), np.float32)
            whole[self.state.name] = states.reshape(rows, *self.state.tail)
        return whole

    def _pack_steps(self, field: _Field, parts: Sequence[Part], steps: int) -> Array:
        name, size, whole = field.name, field.row_bytes, steps * field.row_bytes
        padding = memoryview(bytes(whole))
        pieces: list[memoryview] = []
        for answer, row, start, stop in parts:
            first = row * answer.request.time
            pieces.append(answer.inputs[name][(first + start) * size : (first + stop) * size])
            if stop - start < steps:
                pieces.append(padding[(stop - start) * size :])
        packed = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return np.frombuffer(packed, field.dtype).reshape(len(parts), steps, *field.tail)


def whole_parts(answer: Answer) -> list[Part]:
    """Return all steps of all rows of a request."""
    return [Part(answer, row, 0, length) for row, length in enumerate(answer.request.lengths.tolist())]


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _pack_rows(field: _Field, parts: Sequence[Part]) -> Array:
    size = field.row_bytes
    content = b"".join([part.answer.inputs[field.name][part.row * size : (part.row + 1) * size] for part in parts])
    return np.frombuffer(content, field.dtype).reshape(len(parts), *field.tail)


def _scatter_steps(field: _Field, content: memoryview, parts: Sequence[Part], steps: int) -> None:
    name, size = field.name, field.row_bytes
    for position, (answer, row, start, stop) in enumerate(parts):
        first = position * steps
        answer.steps[name][row].append(bytes(content[first * size : (first + stop - start) * size]))


def _scatter_lasts(field: _Field, content: memoryview, parts: Sequence[Part]) -> None:
    name, size = field.name, field.row_bytes
    for position, (answer, row, _, stop) in enumerate(parts):
        if stop == answer.request.lengths[row]:
            answer.lasts[name][row] = bytes(content[position * size : (position + 1) * size])
