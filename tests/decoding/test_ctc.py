"""CTC decoding against the definition: a text's probability is the sum over all its alignments."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.decoding.ctc import Alphabet, _Beam, beam_search, greedy

Floats = NDArray[np.float64]
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


def collapsed(alignment: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Merge repeats, then leave blanks out: Graves' map B, word for word."""
    return tuple(label for label, _ in itertools.groupby(alignment) if label != blank)


def text_probabilities(probabilities: Floats, blank: int) -> dict[str, float]:
    """Sum over every alignment of float64[steps, classes]; exponential, so for tiny cases only."""
    steps, classes = probabilities.shape
    found: dict[str, float] = {}
    for alignment in itertools.product(range(classes), repeat=steps):
        text = "".join(LETTERS[label] for label in collapsed(alignment, blank))
        found[text] = found.get(text, 0.0) + float(np.prod(probabilities[range(steps), alignment]))
    return found


def random_log_probs(seed: int, rows: int, steps: int, classes: int, *, spread: float = 1.0) -> Floats:
    return normalised(np.random.default_rng(seed).normal(0, spread, (rows, steps, classes)))


def normalised(scores: Floats) -> Floats:
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=2, keepdims=True)))


def beam(log_probs: Floats, *, blank: int = 0, width: int = 16, lengths: list[int] | None = None) -> list[str]:
    rows, steps, classes = log_probs.shape
    symbols = [chr(0x100 + label) for label in range(classes)] if classes > len(LETTERS) else LETTERS[:classes]
    return searched(log_probs, lengths or [steps] * rows, symbols, blank=blank, width=width)


def searched(log_probs: Floats, lengths: list[int], symbols: Sequence[str], *, blank: int, width: int) -> list[str]:
    alphabet = Alphabet(symbols, blank)
    return beam_search(log_probs, np.array(lengths), alphabet, width=width, checkpoint=lambda: None)


@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 5),
    classes=st.integers(2, 4),
    blank=st.integers(0, 3),
    spread=st.floats(0.1, 4),
)
@settings(deadline=None, max_examples=150)
def test_a_beam_that_holds_every_prefix_finds_the_most_probable_text(
    seed: int, steps: int, classes: int, blank: int, spread: float
) -> None:
    blank %= classes
    log_probs = random_log_probs(seed, 1, steps, classes, spread=spread)
    truth = text_probabilities(np.exp(log_probs[0]), blank)

    (found,) = beam(log_probs, blank=blank, width=1000)

    assert truth[found] >= max(truth.values()) * (1 - 1e-9)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 3), steps=st.integers(1, 12), blank=st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_greedy_is_the_collapsed_argmax(seed: int, rows: int, steps: int, blank: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(seed, rows, steps, 4)
    lengths = rng.integers(1, steps + 1, rows)
    expected = [
        "".join(LETTERS[label] for label in collapsed(tuple(row[:length].argmax(axis=1)), blank))
        for row, length in zip(log_probs, lengths, strict=True)
    ]

    assert greedy(log_probs, lengths, Alphabet(LETTERS[:4], blank)) == expected


@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 12),
    classes=st.integers(2, 9),
    blank=st.integers(0, 8),
    width=st.integers(1, 5),
)
@settings(deadline=None, max_examples=150)
def test_the_search_is_hannuns_written_plainly(seed: int, steps: int, classes: int, blank: int, width: int) -> None:
    """Against a plain beam over dictionaries with no pruning of classes: narrow beams lose the same prefixes."""
    blank %= classes
    log_probs = random_log_probs(seed, 1, steps, classes)

    assert beam(log_probs, blank=blank, width=width) == [plain_beam(np.exp(log_probs[0]), blank, width)]


def plain_beam(probabilities: Floats, blank: int, width: int) -> str:
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for step in probabilities:
        found: dict[tuple[int, ...], list[float]] = {}
        for prefix, (ends_blank, ends_label) in kept.items():
            stays = found.setdefault(prefix, [0.0, 0.0])
            stays[0] += (ends_blank + ends_label) * step[blank]
            if prefix:
                stays[1] += ends_label * step[prefix[-1]]
            for label in range(len(step)):
                if label != blank:
                    repeated = prefix[-1:] == (label,)
                    grown = found.setdefault((*prefix, label), [0.0, 0.0])
                    grown[1] += (ends_blank if repeated else ends_blank + ends_label) * step[label]
        best = sorted(found.items(), key=lambda item: -sum(item[1]))[:width]
        kept = {prefix: (ends[0], ends[1]) for prefix, ends in best}
    return "".join(LETTERS[label] for label in next(iter(kept)))


def test_beam_search_sums_alignments_where_the_best_path_does_not() -> None:
    """Two steps of P(blank) 0.6, P(a) 0.4: the best path is blank (0.36), but 'a' has three alignments (0.64)."""
    log_probs = np.log([[[0.6, 0.4], [0.6, 0.4]]])

    assert greedy(log_probs, np.array([2]), Alphabet(("", "a"), 0)) == [""]
    assert searched(log_probs, [2], ("", "a"), blank=0, width=4) == ["a"]


@given(seed=st.integers(0, 10_000), width=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_a_row_in_company_gets_the_text_it_gets_alone(seed: int, width: int) -> None:
    """Rows of mixed lengths, with NaN beyond each length: nothing that is not the row's own is read."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, 6)
    log_probs = random_log_probs(seed, 6, 20, 7)
    log_probs[np.arange(20) >= lengths[:, None]] = np.nan
    together = beam(log_probs, width=width, lengths=lengths.tolist())
    paths = greedy(log_probs, lengths, Alphabet(LETTERS[:7], 0))

    for row, length in enumerate(lengths):
        alone = log_probs[row : row + 1, :length]
        assert [together[row]] == beam(alone, width=width)
        assert [paths[row]] == greedy(alone, lengths[row : row + 1], Alphabet(LETTERS[:7], 0))


def test_many_rows_are_searched_in_groups_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs = random_log_probs(3, 7, 15, 6)
    lengths = [15, 3, 9, 15, 1, 12, 6]
    at_once = beam(log_probs, lengths=lengths)

    monkeypatch.setattr("serving.decoding.ctc.TOGETHER", 1)

    assert beam(log_probs, lengths=lengths) == at_once
    assert len(set(at_once)) > 1


@pytest.mark.parametrize("blank", [0, 1, 3])
@pytest.mark.parametrize("width", [1, 16])
def test_impossible_classes_are_minus_infinity_and_do_no_harm(blank: int, width: int) -> None:
    """One-hot steps (all else has probability zero) spell their text, doubled letters kept apart by a blank."""
    others = [label for label in range(4) if label != blank]
    alignment = [others[0], others[0], blank, others[0], others[1], others[2], blank]
    log_probs = np.full((1, len(alignment), 4), -np.inf)
    log_probs[0, range(len(alignment)), alignment] = 0.0
    expected = "".join(LETTERS[label] for label in (others[0], others[0], others[1], others[2]))

    assert beam(log_probs, blank=blank, width=width) == [expected]
    assert greedy(log_probs, np.array([len(alignment)]), Alphabet(LETTERS[:4], blank)) == [expected]


@pytest.mark.parametrize("nothing", [-np.inf, np.nan])
def test_a_step_that_leaves_no_text_possible_ends_its_rows_text_and_no_others(nothing: float) -> None:
    log_probs = np.full((3, 4, 3), -np.inf)
    log_probs[range(3), :, 1] = 0.0
    log_probs[0] = nothing
    log_probs[1, 2] = nothing

    assert beam(log_probs) == ["", "b", "b"]


def test_a_thousand_steps_neither_underflow_nor_lose_the_text() -> None:
    """The best text's probability, below e to the -1200, is zero in any float; the search never leaves log space."""
    rng = np.random.default_rng(4)
    alignment = rng.integers(0, 5, 1000)
    scores = np.full((1, 1000, 5), np.log(0.2))
    scores[0, range(1000), alignment] = np.log(0.3)
    log_probs = normalised(scores)

    (found,) = beam(log_probs.astype(np.float32), width=8)

    assert log_probs.max(axis=2).sum() < -1200
    assert len(found) > 300
    assert [found] == beam(log_probs, width=8)


def test_a_constant_per_step_changes_no_text() -> None:
    """So outputs before the log-softmax decode as those after it."""
    log_probs = random_log_probs(5, 2, 12, 6, spread=2.0)
    shifted = log_probs + np.random.default_rng(5).normal(0, 30, (2, 12, 1))

    assert beam(shifted) == beam(log_probs)


def test_symbols_of_several_characters_are_just_text() -> None:
    symbols = ("<blank>", "<space>", "ch", "ä")
    alignment = [2, 0, 2, 1, 3, 3]
    log_probs = np.log(np.full((1, 6, 4), 0.05))
    log_probs[0, range(6), alignment] = np.log(0.85)

    assert greedy(log_probs, np.array([6]), Alphabet(symbols, 0)) == ["chch<space>ä"]
    assert searched(log_probs, [6], symbols, blank=0, width=8) == ["chch<space>ä"]


@pytest.mark.parametrize("width", [1, 2, 3, 50])
def test_ties_go_to_the_older_prefix_and_then_to_the_lower_class(width: int) -> None:
    """All classes alike for one step: 'nothing', 'b', 'c', 'd' are equal, and nothing was there first."""
    assert beam(np.log(np.full((1, 1, 4), 0.25)), width=width) == [""]
    without_blank = np.log(np.full((1, 1, 4), 1 / 3))
    without_blank[0, 0, 0] = -np.inf
    assert beam(without_blank, width=width) == ["b"]
    assert greedy(without_blank, np.array([1]), Alphabet(LETTERS[:4], 0)) == ["b"]


def test_a_search_that_nobody_waits_for_ends_at_the_next_step() -> None:
    log_probs = random_log_probs(7, 2, 30, 5)
    steps = []

    def give_up_at_the_third() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        beam_search(log_probs, np.array([30, 4]), Alphabet(LETTERS[:5], 0), width=4, checkpoint=give_up_at_the_third)
    assert len(steps) == 3


@pytest.mark.parametrize("classes", [2, 3])
def test_a_beam_with_room_to_spare_never_holds_a_prefix_twice(classes: int) -> None:
    """While it has fewer prefixes than slots, what fills the others must not come to life as somebody's double."""
    beam_of_rows = _Beam(2, Alphabet(LETTERS[:classes], 0), 12)
    log_probs = random_log_probs(8, 2, 8, classes)

    for step in range(8):
        beam_of_rows.advance(log_probs[:, step])
        for nodes in beam_of_rows.node:
            held = nodes[nodes >= 0]
            assert len(set(held.tolist())) == len(held)


def test_more_classes_than_the_beam_is_wide_lose_nothing() -> None:
    """Only the likeliest classes of a step are tried; the others could not have stayed in the beam."""
    probabilities = np.exp(random_log_probs(6, 1, 6, 26))
    for width in (1, 2, 4):
        assert beam(np.log(probabilities), width=width) == [plain_beam(probabilities[0], 0, width)]
