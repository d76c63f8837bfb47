"""The data sets as arrays: real sequences, padded at the end of time, in parts for training, stopping and judging.

The parts are the same for every seed of a recipe, so that metrics of several seeds are about the same rows.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import sklearn.datasets
from sklearn.model_selection import train_test_split

from training.errors import TrainingError

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]
Targets: TypeAlias = IntArray | FloatArray

JAPANESE_VOWELS = Path(__file__).parent / "data" / "japanese_vowels.npz"
SPLIT_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one purpose.

    Attributes:
        x: float32[rows, steps, F], zero behind each row's last real step.
        lengths: int64[rows], real steps.
        target: int64[rows] (class) or float32[rows, days, targets] (forecast).
    """

    x: FloatArray
    lengths: IntArray
    target: Targets

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: IntArray) -> "Part":
        """Return the rows with these indices, int64[...], padded only as far as the longest of them needs."""
        lengths = self.lengths[rows]
        return Part(x=self.x[rows, : lengths.max()], lengths=lengths, target=self.target[rows])

    def real_steps(self) -> FloatArray:
        """Return all steps that are not padding, float32[steps, F]."""
        steps: FloatArray = self.x[np.arange(self.x.shape[1]) < self.lengths[:, None]]
        return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Three parts that share no row: what is learned from, what decides when to stop, what is reported."""

    train: Part
    validation: Part
    test: Part


def japanese_vowels(path: Path = JAPANESE_VOWELS) -> DataSet:
    """Return utterances, float32[rows, steps, 12] of 7 to 29 steps, and speakers 0 to 8; the test part is the original.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    try:
        # Opened here, because np.load leaves the file open when the archive is damaged.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            train, test = (_utterances(file, part) for part in ("train", "test"))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise TrainingError(
            f"{path}: cannot be read as the Japanese Vowels archive ({error}); restore it from version control, or "
            "make it again as the README beside it says"
        ) from error
    learn, stop = _split(train.target, test_fraction=0.2)
    return DataSet(train=train.take(learn), validation=train.take(stop), test=test)


def digits() -> DataSet:
    """Return scikit-learn's images as float32[rows, 8, 8] (rows from the top, pixels 0 to 16) and digits 0 to 9."""
    images, target = sklearn.datasets.load_digits(return_X_y=True)
    x = images.reshape(-1, 8, 8).astype(np.float32)
    rows = Part(x=x, lengths=np.full(len(x), x.shape[1], dtype=np.int64), target=target.astype(np.int64))
    keep, test = _split(rows.target, test_fraction=0.2)
    learn, stop = _split(rows.target[keep], test_fraction=0.2)
    return DataSet(train=rows.take(keep[learn]), validation=rows.take(keep[stop]), test=rows.take(test))


def _utterances(file: "np.lib.npyio.NpzFile", part: str) -> Part:
    values, lengths, speakers = (file[f"{part}_{name}"] for name in ("values", "lengths", "speakers"))
    x = np.zeros((len(lengths), lengths.max(), values.shape[1]), dtype=np.float32)
    x[np.arange(x.shape[1]) < lengths[:, None]] = values
    return Part(x=x, lengths=lengths, target=speakers)


def _split(target: Targets, *, test_fraction: float) -> tuple[IntArray, IntArray]:
    """Return the indices of two parts in which every class has its share."""
    first, second = train_test_split(
        np.arange(len(target)), test_size=test_fraction, stratify=target, random_state=SPLIT_SEED
    )
    return np.sort(first), np.sort(second)
