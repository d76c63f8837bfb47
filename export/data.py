"""Sequences to prove with: the user's own from a `.npz` file or a function of theirs, or seeded noise."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.callables import import_function, names_function
from export.errors import ExportError
from export.model import OnnxModel
from export.runtime import Row
from export.spec import LENGTHS
from serving.manifest import BATCH, TIME, Tensor

Arrays = Mapping[str, NDArray[Any]]

NOISE_ROWS = 128
NOISE_STEPS = 48
MAX_ROWS = 256
"""Rows of the data that the proofs look at: enough for errors and agreement, and solo runs stay seconds."""
FREE_INDICES = 2
"""Noise for an integer input that indexes no table is drawn below this."""
POOL_LENGTHS = 16
POOL_STEPS = 64
"""Longest sequence of a pool (steps): a proof of padding needs contrast, not length."""
SEED = 20260101
NOISE_WARNING = "the figures were made with noise, not with real sequences; give --data FILE.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows to prove with.

    Attributes:
        rows: what the proofs look at, at most `MAX_ROWS` of `everything`.
        everything: all rows, in the order of the data.
        extras: arrays that are no input, such as labels: dtype[rows, ...] in the same order.
        real: they are the user's, so figures made with them mean something.
        source: where they come from, for messages.
        input_range: smallest and largest value of each float input over the real steps; empty for noise.
    """

    rows: tuple[Row, ...]
    everything: tuple[Row, ...]
    real: bool
    source: str
    input_range: dict[str, tuple[float, float]]
    extras: Arrays = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call the rows in a report."""
        return f"{len(self.rows)} sequences of the data" if self.real else "seeded noise"


def noise(model: OnnxModel) -> Data:
    """Return normal noise; integers are drawn from the indices of the smallest table that the input is looked up in."""
    rng = np.random.default_rng(SEED)
    rows = []
    for _ in range(NOISE_ROWS):
        inputs: dict[str, NDArray[Any]] = {}
        for tensor in model.inputs:
            shape = [NOISE_STEPS if axis == TIME else int(axis) for axis in tensor.shape[1:]]
            limit = tensor.vocabulary or FREE_INDICES
            values = rng.normal(size=shape) if tensor.datatype == "FP32" else rng.integers(0, limit, shape)
            inputs[tensor.name] = values.astype(tensor.dtype)
        rows.append(Row(inputs=inputs, steps=NOISE_STEPS))
    return Data(rows=tuple(rows), everything=tuple(rows), real=False, source="noise", input_range={})


def read_data(source: str | Path, tensors: Sequence[Tensor], *, extras: bool = False) -> Data:
    """Read and check sequences: one array per input, batch-first, and maybe `lengths`, int64[N] (steps).

    Args:
        source: a `.npz` file, or MODULE:FUNCTION, which is called without arguments and returns a dict of such arrays.
        tensors: the model's inputs.
        extras: whether arrays that are no input may be there as well, such as labels, dtype[N, ...].

    Raises:
        ExportError: unreadable, an array missing or too many, another shape or dtype than the model's input, NaN or
            infinity, an index beyond its table, or lengths outside 1 to the time axis.
    """
    arrays = _call(source) if isinstance(source, str) and names_function(source) else _read_arrays(Path(source))
    names = {tensor.name for tensor in tensors}
    others = arrays.keys() - names - {LENGTHS}
    if not names <= arrays.keys() or (others and not extras):
        raise ExportError(
            f"{source}: holds {sorted(arrays)}; expected {sorted(names)}, and '{LENGTHS}' if they differ"
            + ("" if extras else "; other arrays, such as labels, are for --metric")
        )
    sizes: dict[str, int] = {}
    checked = {tensor.name: _check(source, tensor, arrays[tensor.name], sizes) for tensor in tensors}
    rows = _cut(checked, _lengths(source, arrays, sizes), sizes[TIME], tensors)
    chosen = np.random.default_rng(SEED).permutation(len(rows))[:MAX_ROWS]
    data = Data(
        rows=tuple(rows[i] for i in chosen),
        everything=tuple(rows),
        real=True,
        source=str(source),
        input_range=_ranges(rows, tensors),
        extras={name: _check_extra(source, name, arrays[name], len(rows)) for name in sorted(others)},
    )
    check_indices(data, tensors)
    return data


def check_indices(data: Data, tensors: Sequence[Tensor]) -> None:
    """Refuse integers that lie outside the table that they index.

    Raises:
        ExportError: a real step of an input with a vocabulary is below 0 or not below it.
    """
    for tensor in tensors:
        if tensor.vocabulary is None:
            continue
        low = min(int(row.inputs[tensor.name].min()) for row in data.everything)
        high = max(int(row.inputs[tensor.name].max()) for row in data.everything)
        if low < 0 or high >= tensor.vocabulary:
            raise ExportError(
                f"{data.source}: '{tensor.name}' holds values from {low} to {high}; expected 0 to "
                f"{tensor.vocabulary - 1}, the rows of the model's table"
            )


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


def _call(name: str) -> dict[str, NDArray[Any]]:
    function = import_function("--data", name)
    try:
        found = function()
    except Exception as error:
        raise ExportError(
            f"--data '{name}' failed: {type(error).__name__}: {error}; it is called without arguments and must "
            "return a dict of arrays by name"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ExportError(f"--data '{name}' returned a {type(found).__name__}; expected a dict of arrays by name")
    try:
        arrays = {key: np.asarray(value) for key, value in found.items()}
    except ValueError as error:
        raise ExportError(f"--data '{name}': an array is ragged ({error}); pad it and give '{LENGTHS}'") from error
    objects = sorted(key for key, array in arrays.items() if array.dtype == object)
    if objects:
        raise ExportError(f"--data '{name}': {objects} hold objects; expected plain arrays of numbers")
    return arrays


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


def _check(source: str | Path, tensor: Tensor, array: NDArray[Any], sizes: dict[str, int]) -> NDArray[Any]:
    """Return the array in the input's dtype; `sizes` collects what batch and time are, and must not change."""
    fits = array.ndim == len(tensor.shape) and all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis) and size > 0
        for size, axis in zip(array.shape, tensor.shape, strict=True)
    )
    if not fits:
        known = f" with {sizes}" if sizes else ""
        raise ExportError(
            f"{source}: '{tensor.name}' has shape {list(array.shape)}; expected [{', '.join(map(str, tensor.shape))}]"
            f"{known}, no axis empty"
        )
    if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        raise ExportError(f"{source}: '{tensor.name}' is {array.dtype}; expected {tensor.dtype}")
    if not np.isfinite(array).all():
        raise ExportError(f"{source}: '{tensor.name}' holds NaN or infinity")
    return array.astype(tensor.dtype)


def _check_extra(source: str | Path, name: str, array: NDArray[Any], rows: int) -> NDArray[Any]:
    if array.ndim == 0 or len(array) != rows:
        raise ExportError(
            f"{source}: '{name}' has shape {list(array.shape)}; expected one entry for each of {rows} rows"
        )
    return array


def _lengths(source: str | Path, arrays: Arrays, sizes: Mapping[str, int]) -> NDArray[Any]:
    count, time = sizes[BATCH], sizes[TIME]
    lengths = arrays.get(LENGTHS, np.full(count, time, np.int64))
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu" or not ((lengths >= 1) & (lengths <= time)).all():
        raise ExportError(f"{source}: '{LENGTHS}' must be {count} integers from 1 to {time} (the steps of each row)")
    return lengths


def _cut(arrays: Arrays, lengths: NDArray[Any], time: int, tensors: Sequence[Tensor]) -> list[Row]:
    return [
        Row(inputs={name: array[i] for name, array in arrays.items()}, steps=time).part(0, int(steps), tensors)
        for i, steps in enumerate(lengths)
    ]


def _ranges(rows: Sequence[Row], tensors: Sequence[Tensor]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each float input over the real steps."""
    return {
        tensor.name: (
            float(min(row.inputs[tensor.name].min() for row in rows)),
            float(max(row.inputs[tensor.name].max() for row in rows)),
        )
        for tensor in tensors
        if tensor.datatype == "FP32"
    }
