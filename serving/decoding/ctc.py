"""CTC: from log-probabilities per step to text, by the best path or by prefix beam search.

Our own code, because no library fits: fast-ctc-decode reverses the text of symbols with several characters, fixes the
blank at class 0 and has no wheels for Windows or musl; pyctcdecode holds numpy below 2.

Sources: Graves et al., "Connectionist Temporal Classification", ICML 2006 (best path); Hannun et al., "First-Pass Large
Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", arXiv 1408.2873, algorithm 1 (prefix beam
search; here without a language model and in log space).

Both add up scores along a path, so a constant per step changes nothing: scores before the log-softmax decode alike.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

TOGETHER = 2**20
"""Candidates of a step, and prefixes ever kept, of the rows that are searched at once: bounds memory (some 100 MiB)."""
NOTHING, ORPHAN = -1, -2
"""Node and parent of a beam slot that holds no prefix; they differ, so that no slot is another one's parent.

Such slots have probability zero and come before what grew from them, so they are only ever replaced by real prefixes.
"""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The text of each class, and which class is the blank."""

    symbols: Sequence[str]
    blank: int

    def text(self, labels: Iterable[int]) -> str:
        """Return what classes spell."""
        return "".join(self.symbols[label] for label in labels)


def greedy(log_probs: Floats, lengths: Integers, alphabet: Alphabet) -> list[str]:
    """Return the text of each row's best path: the likeliest class per step, repeats merged, blanks left out.

    Args:
        log_probs: float[rows, steps, classes]; of equal classes the first counts.
        lengths: int64[rows], real steps of each row; what lies beyond is not read.
        alphabet: of the classes.
    """
    best = log_probs.argmax(axis=2)
    before = np.pad(best, ((0, 0), (1, 0)), constant_values=alphabet.blank)[:, :-1]
    real = np.arange(best.shape[1]) < lengths[:, None]
    spoken = real & (best != alphabet.blank) & (best != before)
    return [alphabet.text(row[kept]) for row, kept in zip(best, spoken, strict=True)]


def beam_search(
    log_probs: Floats,
    lengths: Integers,
    alphabet: Alphabet,
    *,
    width: int,
    checkpoint: Callable[[], None],
) -> list[str]:
    """Return the likeliest text of each row that a prefix beam search finds.

    A text's probability is the sum over all its alignments. With a beam that holds every prefix the answer is exact.
    Equal scores are settled in favour of the older and likelier prefix, then of the lower class, so an answer never
    varies. NaN counts as impossible; if a step leaves no text possible, the answer is what was likeliest before it.

    Args:
        log_probs: float[rows, steps, classes].
        lengths: int64[rows], real steps of each row; what lies beyond is not read.
        alphabet: of the classes.
        width: prefixes that are kept at each step.
        checkpoint: called before each step; what it raises ends the search.
    """
    texts = [""] * len(lengths)
    by_length = np.argsort(-lengths, kind="stable")
    together = max(1, TOGETHER // (width * max(2 * width + 1, int(lengths.max()))))
    for start in range(0, len(by_length), together):
        rows = by_length[start : start + together]
        beam = _Beam(len(rows), alphabet, width)
        for step in range(int(lengths[rows[0]])):
            checkpoint()
            live = int(np.count_nonzero(lengths[rows] > step))  # the longest come first
            said = log_probs[rows[:live], step].astype(np.float64)
            beam.advance(np.where(np.isnan(said), -np.inf, said))
        for row, labels in zip(rows, beam.best(), strict=True):
            texts[row] = alphabet.text(labels)
    return texts


class _Beam:
    """The likeliest prefixes of several rows, best first; the first rows, or all, advance by one step at a time.

    A prefix is a node of its row's tree. Nodes are never forgotten: a prefix that left the beam and comes back must be
    the same node, or its longer forms that stayed would not find it.

    Attributes:
        node, parent: int64[rows, width], the prefix and the one that it extends.
        last: int64[rows, width], last class of the prefix; the blank for the empty one.
        ends_blank, ends_label: float64[rows, width], log of the summed probability of the prefix's alignments that end
            in the blank, and of those that end in its last class.
    """

    def __init__(self, rows: int, alphabet: Alphabet, width: int) -> None:
        self._blank = alphabet.blank
        self._classes = len(alphabet.symbols)
        self._labels = np.delete(np.arange(self._classes), self._blank)
        self._roots = rows
        self._nodes: dict[int, int] = {}
        self.node = np.full((rows, width), NOTHING)
        self.parent = np.full((rows, width), ORPHAN)
        self.last = np.full((rows, width), self._blank)
        self.ends_blank = np.full((rows, width), -np.inf)
        self.ends_label = np.full((rows, width), -np.inf)
        self.node[:, 0] = np.arange(rows)
        self.ends_blank[:, 0] = 0.0

    def best(self) -> Iterator[list[int]]:
        """Yield the classes of each row's likeliest prefix."""
        keys = list(self._nodes)
        for row in range(self._roots):
            labels = []
            node = int(self.node[row, 0])
            while node >= self._roots:
                node, label = divmod(keys[node - self._roots], self._classes)
                labels.append(label)
            yield labels[::-1]

    def advance(self, step: NDArray[np.float64]) -> None:
        """Take one step of the first rows, float64[rows, classes]."""
        stay_blank, stay_label, longer, labels = self._candidates(step)
        rows, width, count = longer.shape
        row = np.arange(rows)[:, None]
        scores = np.concatenate([np.logaddexp(stay_blank, stay_label), longer.reshape(rows, -1)], axis=1)
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        stays = chosen < width
        origin, which = np.divmod(chosen - width, count)
        origin = np.where(stays, chosen, origin)
        came_from = self.node[row, origin]
        label = np.where(stays, self.last[row, origin], labels[row, which])
        node = came_from.copy()
        node[~stays] = self._children(came_from[~stays], label[~stays])
        self.parent[:rows] = np.where(stays, self.parent[row, origin], came_from)
        self.node[:rows] = node
        self.last[:rows] = label
        self.ends_blank[:rows] = np.where(stays, stay_blank[row, origin], -np.inf)
        self.ends_label[:rows] = np.where(stays, stay_label[row, origin], scores[row, chosen])

    def _candidates(self, step: NDArray[np.float64]) -> tuple[Floats, Floats, Floats, Integers]:
        """Score what can follow: prefixes that stay, float64[rows, width] by their end, and longer ones.

        Returns:
            Log-probabilities of the prefixes as they stand (ending in the blank, ending in the last class), those of
            the longer ones, float64[rows, width, count], and the classes that make them longer, int64[rows, count].
        """
        rows, width = len(step), self.node.shape[1]
        row = np.arange(rows)[:, None]
        node, parent, last = self.node[:rows], self.parent[:rows], self.last[:rows]
        ends_blank, ends_label = self.ends_blank[:rows], self.ends_label[:rows]
        total = np.logaddexp(ends_blank, ends_label)
        said = step[row, last]

        is_parent = parent[:, :, None] == node[:, None, :]
        has_parent, slot = is_parent.any(axis=2), is_parent.argmax(axis=2)
        before = np.where(last[row, slot] == last, ends_blank[row, slot], total[row, slot])
        stay_label = np.logaddexp(ends_label + said, np.where(has_parent, before + said, -np.inf))

        labels = self._likeliest(step, width + 1)
        repeats = last[:, :, None] == labels[:, None, :]
        longer = np.where(repeats, ends_blank[:, :, None], total[:, :, None]) + step[row, labels][:, None, :]
        of_row, child, label = np.nonzero(repeats & has_parent[:, :, None])
        longer[of_row, slot[of_row, child], label] = -np.inf  # they are in the beam, and were counted there
        return total + step[:, self._blank, None], stay_label, longer, labels

    def _likeliest(self, step: NDArray[np.float64], count: int) -> Integers:
        """Return the likeliest classes but the blank, int64[rows, count or fewer].

        One more than the beam is wide loses nothing: of a prefix that grew by any other class, as many siblings as the
        beam has slots are likelier. The one more is for the sibling that repeats a class and so counts for less.
        """
        order = np.argsort(-step[:, self._labels], axis=1, kind="stable")
        return self._labels[order[:, :count]]

    def _children(self, parents: Integers, labels: Integers) -> list[int]:
        """Return the nodes of grown prefixes, made where they are new."""
        keys = (parents * self._classes + labels).tolist()
        return [self._nodes.setdefault(key, self._roots + len(self._nodes)) for key in keys]
