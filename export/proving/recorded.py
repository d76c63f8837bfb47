"""The original model's answers to seeded noise, kept beside the file, so that parity can be proven on any machine.

Noise, never the user's data: a model folder travels.
"""

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.data import noise, pool
from export.errors import ExportError
from export.model import OnnxModel
from export.proving.proofs import Judge
from export.runtime import Answer, Array, Row

ORIGINAL_FILE = "original.npz"
RECORDED_ROWS = 32
MAX_BYTES = 8 * 2**20
"""Of answers and inputs before compression; a row that would go beyond it is left out, the first one never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Rows and what the original answered to each alone; judges these rows and no others."""

    rows: tuple[Row, ...]
    expected: tuple[Answer, ...]

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the recorded answers to some of `self.rows`, the very objects."""
        places = {id(row): place for place, row in enumerate(self.rows)}
        return [self.expected[places[id(row)]] for row in rows]


def recorded_rows(model: OnnxModel) -> list[Row]:
    """Return the rows of noise to record, of many lengths, 1 among them."""
    return pool(noise(model), model.inputs, rows=RECORDED_ROWS)


def record(original: Judge, rows: Sequence[Row]) -> bytes:
    """Return the content of `original.npz` for rows of noise."""
    arrays: dict[str, Array] = {}
    size = 0
    for row, answer in zip(rows, original.answers(rows), strict=True):
        parts = {f"inputs/{name}": array for name, array in row.inputs.items()}
        parts |= {f"outputs/{name}": np.asarray(array) for name, array in answer.items()}
        size += sum(array.nbytes for array in parts.values())
        if arrays and size > MAX_BYTES:
            break
        number = len({name.split("/")[0] for name in arrays})
        arrays |= {f"{number}/{name}": array for name, array in parts.items()}
        arrays[f"{number}/steps"] = np.asarray(row.steps)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_recorded(directory: Path, model: OnnxModel) -> Recorded | None:
    """Return what was recorded of a version's original; None if it was written without.

    Raises:
        ExportError: the file cannot be read, or has other tensors than the model.
    """
    path = directory / ORIGINAL_FILE
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:  # numpy leaves a damaged path open
            arrays = {name: file[name] for name in file.files}
        numbers = range(len({name.split("/")[0] for name in arrays}))
        rows = [
            Row(
                inputs={tensor.name: arrays[f"{number}/inputs/{tensor.name}"] for tensor in model.inputs},
                steps=int(arrays[f"{number}/steps"]),
            )
            for number in numbers
        ]
        expected = [
            {tensor.name: arrays[f"{number}/outputs/{tensor.name}"] for tensor in model.outputs} for number in numbers
        ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ExportError(
            f"{path}: cannot be read as the original's answers ({error}); export the model again"
        ) from error
    return Recorded(rows=tuple(rows), expected=tuple(expected))
