"""The data sets: what is in them, and that no part knows of another."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.data import convert_japanese_vowels
from training.datasets import JAPANESE_VOWELS, DataSet, Part, digits, japanese_vowels
from training.errors import TrainingError

TWO_UTTERANCES = "# a comment\n@data\n" + "\n".join(
    ":".join([*(",".join(str(channel + step / 10) for step in range(steps)) for channel in range(12)), str(speaker)])
    for steps, speaker in ((3, 1), (2, 9))
)


@pytest.fixture(scope="module")
def vowels() -> DataSet:
    return japanese_vowels()


def rows_of(part: Part) -> set[bytes]:
    return {part.x[row, : part.lengths[row]].tobytes() for row in range(len(part))}


def test_the_original_270_and_370_utterances_are_there(vowels: DataSet) -> None:
    assert (len(vowels.train) + len(vowels.validation), len(vowels.test)) == (270, 370)
    lengths = np.concatenate([vowels.train.lengths, vowels.validation.lengths, vowels.test.lengths])
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert vowels.test.x.shape == (370, 29, 12)
    assert vowels.test.x.dtype == np.float32


def test_every_speaker_is_in_every_part_by_his_share(vowels: DataSet) -> None:
    assert np.bincount(vowels.train.target.astype(np.int64)).tolist() == [24] * 9
    assert np.bincount(vowels.validation.target.astype(np.int64)).tolist() == [6] * 9
    assert np.bincount(vowels.test.target.astype(np.int64)).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


@pytest.mark.parametrize("load", [japanese_vowels, digits])
def test_values_are_finite_padding_is_zero_and_no_row_is_in_two_parts(load: Callable[[], DataSet]) -> None:
    data = load()
    parts = [data.train, data.validation, data.test]

    for part in parts:
        assert np.isfinite(part.x).all()
        assert len(part.real_steps()) == part.lengths.sum()
        assert not part.x[np.arange(part.x.shape[1]) >= part.lengths[:, None]].any()
    train, validation, test = map(rows_of, parts)
    assert len(train | validation | test) == len(train) + len(validation) + len(test)


def test_digits_are_all_there_as_eight_rows_of_eight_pixels() -> None:
    data = digits()

    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    assert data.test.x.shape[1:] == (8, 8)
    assert (data.train.x.min(), data.train.x.max()) == (0, 16)
    assert set(data.test.lengths) == {8}
    assert np.bincount(data.test.target.astype(np.int64)).min() >= 34


def test_a_seeded_split_is_the_same_each_time(vowels: DataSet) -> None:
    assert np.array_equal(japanese_vowels().validation.x, vowels.validation.x)


def test_rows_taken_are_padded_only_as_far_as_they_need(vowels: DataSet) -> None:
    shortest = vowels.test.take(np.flatnonzero(vowels.test.lengths == 7))

    assert shortest.x.shape[1:] == (7, 12)


def test_a_damaged_archive_is_refused_with_the_way_to_get_it_back(tmp_path: Path) -> None:
    damaged = tmp_path / "japanese_vowels.npz"
    damaged.write_bytes(JAPANESE_VOWELS.read_bytes()[:1000])

    with pytest.raises(TrainingError, match="restore it from version control"):
        japanese_vowels(damaged)


def test_the_readme_has_the_checksum_of_the_archive() -> None:
    digest = hashlib.sha256(JAPANESE_VOWELS.read_bytes()).hexdigest()

    assert digest in JAPANESE_VOWELS.with_name("README.md").read_text()


def test_the_converter_reads_the_text_that_aeon_ships(tmp_path: Path) -> None:
    for name in convert_japanese_vowels.PARTS.values():
        (tmp_path / name).write_text(TWO_UTTERANCES)
    target = tmp_path / "out.npz"

    convert_japanese_vowels.main([str(tmp_path), "--target", str(target)])

    with np.load(target, allow_pickle=False) as file:
        assert file["train_lengths"].tolist() == [3, 2]
        assert file["test_speakers"].tolist() == [0, 8]
        assert file["train_values"].shape == (5, 12)
        assert file["train_values"][:, 11] == pytest.approx([11.0, 11.1, 11.2, 11.0, 11.1])


def test_the_converter_names_the_line_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in convert_japanese_vowels.PARTS.values():
        (tmp_path / name).write_text("@data\n1.0,2.0:3.0,4.0:1\n")

    with pytest.raises(SystemExit) as exit_info:
        convert_japanese_vowels.main([str(tmp_path), "--target", str(tmp_path / "out.npz")])

    assert exit_info.value.code == 2
    assert "JapaneseVowels_TRAIN.ts, line 2: expected 12 channels" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
