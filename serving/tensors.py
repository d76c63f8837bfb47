"""Requests' tensors to one padded batch, and answers back. Numpy only; knows no threads, engine or wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.manifest import Manifest, Tensor

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The checked tensors of one request.

    Attributes:
        inputs: by name, dtype[rows, ...] or dtype[rows, time, ...]; `time` is the same in all of them.
        lengths: int64[rows], real steps of each row, 1 <= length <= time.
        time: size of the time axis as the client sent it (steps); answers that follow time have it again.
    """

    inputs: Arrays
    lengths: NDArray[np.int64]
    time: int

    @property
    def rows(self) -> int:
        """Sequences in this request."""
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Real steps of the longest row."""
        return int(self.lengths.max())


def pack(manifest: Manifest, requests: Sequence[Rows]) -> dict[str, Array]:
    """Lay the rows of all requests below each other, zero-padded at the end of time, as the graph takes them.

    Returns:
        The graph's feed: every input as dtype[B, max steps, ...] (or dtype[B, ...]), the lengths int64[B], and for a
        stepwise model the initial state, float32[B, S] zeros; B is the sum of the requests' rows, in the order given.
    """
    lengths = np.concatenate([request.lengths for request in requests])
    feed = {tensor.name: _pack_input(tensor, requests, int(lengths.max())) for tensor in manifest.inputs}
    if manifest.lengths_input is not None:
        feed[manifest.lengths_input] = lengths
    if manifest.state is not None:
        feed[manifest.state.input] = np.zeros((len(lengths), manifest.state.size), np.float32)
    return feed


def scatter(manifest: Manifest, outputs: Arrays, requests: Sequence[Rows]) -> list[dict[str, Array]]:
    """Cut the engine's outputs into one answer per request, each with its own rows and its own time axis.

    Steps beyond a row's real length are zero, whatever the engine left there.

    Raises:
        ValueError: an output has another number of rows or steps than went in. That is the model's fault or ours: rows
            must never reach another caller.
    """
    rows = sum(request.rows for request in requests)
    steps = max(request.steps for request in requests)
    for tensor in manifest.outputs:
        shape = outputs[tensor.name].shape
        if shape[0] != rows or (tensor.follows_time and shape[1] != steps):
            raise ValueError(f"output '{tensor.name}' has shape {shape}; {rows} rows of {steps} steps went in")
    answers = []
    start = 0
    for request in requests:
        part = slice(start, start + request.rows)
        answers.append(
            {
                tensor.name: _own_steps(outputs[tensor.name][part], request)
                if tensor.follows_time
                else outputs[tensor.name][part]
                for tensor in manifest.outputs
            }
        )
        start = part.stop
    return answers


def _pack_input(tensor: Tensor, requests: Sequence[Rows], steps: int) -> Array:
    parts = [request.inputs[tensor.name] for request in requests]
    if not tensor.follows_time:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(parts) == 1:
        return parts[0][:, :steps]
    packed = np.zeros((sum(len(part) for part in parts), steps, *parts[0].shape[2:]), tensor.dtype)
    start = 0
    for part, request in zip(parts, requests, strict=True):
        packed[start : start + len(part), : request.steps] = part[:, : request.steps]
        start += len(part)
    return packed


def _own_steps(output: Array, request: Rows) -> Array:
    if (request.lengths == request.time).all():
        return output[:, : request.time]
    own = np.zeros((request.rows, request.time, *output.shape[2:]), output.dtype)
    for row, length in enumerate(request.lengths):
        own[row, :length] = output[row, :length]
    return own
