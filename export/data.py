"""Sequences to prove with: the user's own from a `.npz` file, or seeded noise."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.errors import ExportError
from export.model import OnnxModel
from export.runtime import Row
from export.spec import LENGTHS
from serving.manifest import BATCH, TIME, Tensor

NOISE_ROWS = 128
NOISE_STEPS = 48
MAX_ROWS = 256
"""Rows of a data file that the proofs look at: enough for errors and agreement, and solo runs stay seconds."""
POOL_LENGTHS = 16
POOL_STEPS = 64
"""Longest sequence of a pool (steps): a proof of padding needs contrast, not length."""
SEED = 20260101


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows to prove with.

    Attributes:
        real: they are the user's, so figures made with them mean something.
        input_range: smallest and largest value of each float input over the real steps; empty for noise.
    """

    rows: tuple[Row, ...]
    real: bool
    input_range: dict[str, tuple[float, float]]

    @property
    def name(self) -> str:
        """What to call the rows in a report."""
        return f"{len(self.rows)} sequences of the data file" if self.real else "seeded noise"


def noise(model: OnnxModel) -> Data:
    """Return normal noise; integers are drawn from the indices that the smallest table in the graph has."""
    rng = np.random.default_rng(SEED)
    limit = _smallest_table(model.content)
    rows = []
    for _ in range(NOISE_ROWS):
        inputs: dict[str, NDArray[Any]] = {}
        for tensor in model.inputs:
            shape = [NOISE_STEPS if axis == TIME else int(axis) for axis in tensor.shape[1:]]
            values = rng.normal(size=shape) if tensor.datatype == "FP32" else rng.integers(0, limit, shape)
            inputs[tensor.name] = values.astype(tensor.dtype)
        rows.append(Row(inputs=inputs, steps=NOISE_STEPS))
    return Data(rows=tuple(rows), real=False, input_range={})


def read_data(path: Path, tensors: Sequence[Tensor]) -> Data:
    """Read and check a `.npz` file with one array per input, batch-first, and maybe `lengths`, int64[N] (steps).

    Raises:
        ExportError: unreadable, an array missing or too many, another shape or dtype than the model's input, NaN or
            infinity, or lengths outside 1 to the time axis.
    """
    arrays = _read_arrays(path)
    names = {tensor.name for tensor in tensors}
    if not names <= arrays.keys() <= names | {LENGTHS}:
        raise ExportError(f"{path}: holds {sorted(arrays)}; expected {sorted(names)}, and '{LENGTHS}' if they differ")
    sizes: dict[str, int] = {}
    checked = {tensor.name: _check(path, tensor, arrays[tensor.name], sizes) for tensor in tensors}
    count, time = sizes[BATCH], sizes[TIME]
    lengths = arrays.get(LENGTHS, np.full(count, time, np.int64))
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu" or not ((lengths >= 1) & (lengths <= time)).all():
        raise ExportError(f"{path}: '{LENGTHS}' must be {count} integers from 1 to {time} (the steps of each row)")
    rows = [
        Row(inputs={name: array[i] for name, array in checked.items()}, steps=time).part(0, int(lengths[i]), tensors)
        for i in range(count)
    ]
    floats = [tensor.name for tensor in tensors if tensor.datatype == "FP32"]
    ranges = {
        name: (
            float(min(row.inputs[name].min() for row in rows)),
            float(max(row.inputs[name].max() for row in rows)),
        )
        for name in floats
    }
    chosen = np.random.default_rng(SEED).permutation(count)[:MAX_ROWS]
    return Data(rows=tuple(rows[i] for i in chosen), real=True, input_range=ranges)


def pool(data: Data, tensors: Sequence[Tensor], *, rows: int = 64) -> list[Row]:
    """Return sequences cut to `POOL_LENGTHS` different lengths (steps), length 1 and the longest among them, in order.

    Rows of one length come in groups, so that batches of equal lengths can be drawn as well.
    """
    rng = np.random.default_rng(SEED)
    longest = min(max(row.steps for row in data.rows), POOL_STEPS)
    lengths = np.unique(np.linspace(1, longest, min(longest, POOL_LENGTHS)).round().astype(int))
    cut = []
    for steps in lengths:
        long_enough = [row for row in data.rows if row.steps >= steps]
        cut += [
            long_enough[rng.integers(len(long_enough))].part(0, int(steps), tensors)
            for _ in range(max(2, rows // len(lengths)))
        ]
    return cut


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ExportError(f"{path}: holds one array; expected a .npz file (numpy.savez) with arrays by name")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ExportError(f"{path}: not a .npz file of plain arrays ({error})") from error


def _check(path: Path, tensor: Tensor, array: NDArray[Any], sizes: dict[str, int]) -> NDArray[Any]:
    """Return the array in the input's dtype; `sizes` collects what batch and time are, and must not change."""
    fits = array.ndim == len(tensor.shape) and all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis) and size > 0
        for size, axis in zip(array.shape, tensor.shape, strict=True)
    )
    if not fits:
        known = f" with {sizes}" if sizes else ""
        raise ExportError(
            f"{path}: '{tensor.name}' has shape {list(array.shape)}; expected [{', '.join(map(str, tensor.shape))}]"
            f"{known}, no axis empty"
        )
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise ExportError(f"{path}: '{tensor.name}' is {array.dtype}; expected {tensor.dtype}")
    if not np.isfinite(array).all():
        raise ExportError(f"{path}: '{tensor.name}' holds NaN or infinity")
    return array.astype(tensor.dtype)


def _smallest_table(content: bytes) -> int:
    """Return the least number of rows of the constants that the graph looks up by index; 2 if it looks up none."""
    graph = onnx.load_from_string(content).graph
    tables = {tensor.name: numpy_helper.to_array(tensor).shape for tensor in graph.initializer if len(tensor.dims) == 2}
    looked_up = [
        tables[node.input[0]][0] for node in graph.node if node.op_type == "Gather" and node.input[0] in tables
    ]
    return min(looked_up, default=2)
