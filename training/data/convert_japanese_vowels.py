"""Make `japanese_vowels.npz` from the two text files that `aeon` ships.

Run it as `python -m training.data.convert_japanese_vowels FOLDER`. In the text (`.ts`), lines that begin with # or @
are a header; every other line is one utterance, its channels separated by ':', the values of a channel by ',', the
class label behind the last ':'.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

TARGET = Path(__file__).with_name("japanese_vowels.npz")
CHANNELS = 12
PARTS = {"train": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}


def parse_utterance(line: str) -> tuple[npt.NDArray[np.float32], int]:
    """Return an utterance as float32[steps, 12] and its speaker, 0 to 8 (the text counts from 1).

    Raises:
        ValueError: not 12 channels of one length and a label.
    """
    *channels, label = line.strip().split(":")
    values = np.array([channel.split(",") for channel in channels], dtype=np.float32).T
    if values.ndim != 2 or values.shape[1] != CHANNELS:
        raise ValueError(f"expected {CHANNELS} channels of one length and a label, got {len(channels)} channels")
    return values, int(label) - 1


def read_part(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the values of all utterances end to end, float32[steps, 12], their lengths and speakers, int64[rows].

    Raises:
        ValueError: a line is not an utterance; the message has its number.
    """
    utterances = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith(("#", "@")):
            continue
        try:
            utterances.append(parse_utterance(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    values = np.concatenate([values for values, _ in utterances])
    lengths = np.array([len(values) for values, _ in utterances], dtype=np.int64)
    return values, lengths, np.array([speaker for _, speaker in utterances], dtype=np.int64)


def convert(folder: Path, target: Path) -> None:
    """Write both parts as one compressed archive without pickled objects.

    Raises:
        OSError: a text file is not in `folder`.
        ValueError: a line is not an utterance.
    """
    arrays: dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]] = {}
    for part, file_name in PARTS.items():
        values, lengths, speakers = read_part(folder / file_name)
        arrays |= {f"{part}_values": values, f"{part}_lengths": lengths, f"{part}_speakers": speakers}
    with target.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Make japanese_vowels.npz from the text files that aeon ships.")
    parser.add_argument("folder", type=Path, help=f"holds {' and '.join(PARTS.values())}")
    parser.add_argument("--target", type=Path, default=TARGET, help="file to write (default: the committed one)")
    given = parser.parse_args(arguments)
    try:
        convert(given.folder, given.target)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
