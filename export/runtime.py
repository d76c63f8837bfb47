"""onnxruntime as the proofs use it: rows in, each row's own answer out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.errors import ExportError
from export.model import OnnxModel
from export.spec import LENGTHS
from serving.manifest import TIME, Tensor

Array = NDArray[Any]
Answer = Mapping[str, Array]
"""Outputs of one row by name, without the batch axis: dtype[steps, ...] or dtype[...]."""
Device = Literal["cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sequence.

    Attributes:
        inputs: by name, without the batch axis: dtype[steps, ...], or dtype[...] for what does not follow time.
        steps: its length.
    """

    inputs: Mapping[str, Array]
    steps: int

    def part(self, start: int, stop: int, tensors: Sequence[Tensor]) -> "Row":
        """Return the row's steps from `start` up to `stop`."""
        inputs = {t.name: self.inputs[t.name][start:stop] if t.follows_time else self.inputs[t.name] for t in tensors}
        return Row(inputs=inputs, steps=min(stop, self.steps) - start)


class Session(Protocol):
    """What computes a model: onnxruntime's InferenceSession, or the native engine's."""

    def run(self, names: list[str], feed: dict[str, Array], /) -> Sequence[Array]:
        """Compute the named outputs of a feed, in their order."""


class Runtime:
    """A model and what runs it: one thread, no spinning, quiet."""

    def __init__(
        self, model: OnnxModel, *, device: Device = "cpu", half: bool = False, session: Session | None = None
    ) -> None:
        """Load the model into onnxruntime, unless a session is given.

        Args:
            model: in memory.
            device: where it runs.
            half: the file computes in FP16. onnxruntime's fusion of Transpose and MatMul across casts, which it needs
                for FP16 on the CPU, crashes (1.32), so it is left out.
            session: computes the same inputs and outputs, on the CPU.

        Raises:
            ExportError: onnxruntime cannot load it, or there is no such device.
        """
        self.model, self.device = model, device
        if session is None:
            self._session, self._names = _open(model, device, half=half)
        else:
            self._session, self._names = session, [tensor.name for tensor in model.outputs]
            self._names += [] if model.state is None else [model.state.output]

    def feed(self, rows: Sequence[Row], *, dirty: bool = False) -> dict[str, Array]:
        """Lay rows below each other as the graph takes them, padded to the longest, with a zero state.

        Args:
            rows: at least one.
            dirty: pad with the row's own values over again instead of zeros: what a client may leave there.
        """
        feed = {tensor.name: _stack(tensor, rows, dirty=dirty) for tensor in self.model.inputs}
        feed[LENGTHS] = np.array([row.steps for row in rows], np.int64)
        if self.model.state is not None:
            feed[self.model.state.input] = np.zeros((len(rows), self.model.state.size), np.float32)
        return feed

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return all outputs of the graph by name.

        Raises:
            ExportError: the graph fails on this feed.
        """
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            shapes = {name: list(array.shape) for name, array in feed.items()}
            raise ExportError(f"the exported graph fails on inputs of the shapes {shapes}: {error}") from error

    def answer(self, rows: Sequence[Row], *, dirty: bool = False) -> list[Answer]:
        """Return each row's own answer when the rows are run as one batch.

        Raises:
            ExportError: the graph fails, or its outputs have other rows or steps than went in.
        """
        return self.split(self.run(self.feed(rows, dirty=dirty)), rows)

    def split(self, outputs: Mapping[str, Array], rows: Sequence[Row]) -> list[Answer]:
        """Cut a batch's outputs into the rows' own answers."""
        steps = max(row.steps for row in rows)
        for tensor in self.model.outputs:
            shape = outputs[tensor.name].shape
            sizes = {"batch": len(rows), TIME: steps}
            expected = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)
            if shape != expected:
                raise ExportError(f"output '{tensor.name}' has shape {list(shape)}, expected {list(expected)}")
        return [
            {
                tensor.name: outputs[tensor.name][i, : row.steps] if tensor.follows_time else outputs[tensor.name][i]
                for tensor in self.model.outputs
            }
            for i, row in enumerate(rows)
        ]


def _open(model: OnnxModel, device: Device, *, half: bool) -> tuple[Session, list[str]]:
    """Return an onnxruntime session and the names of the graph's outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model.content,
            options,
            providers=_providers(device),
            disabled_optimizers=["MatmulTransposeFusion"] if half else None,
        )
    except ExportError:
        raise
    except Exception as error:  # as above
        raise ExportError(f"onnxruntime cannot load the model: {error}") from error
    if device == "cuda" and CUDA not in session.get_providers():
        raise ExportError("--device cuda: onnxruntime fell back to the CPU; its log says which library failed")
    return session, [output.name for output in session.get_outputs()]


def _stack(tensor: Tensor, rows: Sequence[Row], *, dirty: bool) -> Array:
    arrays = [row.inputs[tensor.name] for row in rows]
    if not tensor.follows_time:
        return np.stack(arrays)
    steps = max(row.steps for row in rows)
    if dirty:
        return np.stack([np.resize(array, (steps, *array.shape[1:])) for array in arrays])
    padded = np.zeros((len(rows), steps, *arrays[0].shape[1:]), tensor.dtype)
    for i, array in enumerate(arrays):
        padded[i, : len(array)] = array
    return padded


def _providers(device: Device) -> list[str]:
    if device == "cpu":
        return [CPU]
    if CUDA not in onnxruntime.get_available_providers():
        raise ExportError(
            "--device cuda: the installed onnxruntime has no CUDA support; "
            "pip uninstall onnxruntime && pip install 'lstm-serving[gpu]'"
        )
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip installed them
    return [CUDA, CPU]
