"""The rows that wait, most urgent first: what comes and goes costs what it is, however long the queue."""

from bisect import bisect_left, bisect_right, insort_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter

from serving.batching.tickets import Order, Row

MOST_BLOCK_ROWS = 512
"""A block that grows beyond it is cut: few enough to move in a moment, many enough for batches to come out of one."""
ORDER = attrgetter("order")


def merge(rows: list[Row], more: Sequence[Row]) -> None:
    """Put sorted rows, at least one, into sorted ones; looks at those only that the first and the last embrace."""
    start = bisect_right(rows, more[0].order, key=ORDER)
    stop = bisect_right(rows, more[-1].order, start, key=ORDER)
    rows[start:stop] = more if start == stop else sorted((*rows[start:stop], *more), key=ORDER)


class Waiting:
    """A sorted list of rows in blocks: a change moves the rows of a block at most, never those of the queue.

    An order stays what it is while its row waits.
    """

    def __init__(self) -> None:
        self._blocks: list[list[Row]] = []  # none empty; the most urgent first
        self._bounds: list[Order] = []  # between neighbouring blocks: what is less lies before it, all else behind
        self._count = 0
        self._by_length: defaultdict[int, Waiting] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self._blocks)

    def first(self, count: int) -> list[Row]:
        """Return so many rows, the most urgent ones; fewer if there are not as many."""
        rows: list[Row] = []
        for block in self._blocks:
            rows += block[: count - len(rows)]
            if len(rows) == count:
                break
        return rows

    def first_of_length(self, steps: int, count: int) -> list[Row]:
        """Return so many rows of exactly so many steps, the most urgent ones; fewer if there are not as many."""
        if self._by_length is None:  # most policies never ask, and do not pay for the index
            self._by_length = defaultdict(Waiting)
            for row in self:
                self._by_length[row.length].add((row,))
        return self._by_length[steps].first(count)

    def add(self, rows: Sequence[Row]) -> None:
        """Let rows wait, at least one, in any order."""
        blocks = self._blocks
        if not blocks:
            blocks.append([])
        elif len(rows) == 1 and blocks[-1][-1].order <= rows[0].order and len(blocks[-1]) < MOST_BLOCK_ROWS:
            blocks[-1].append(rows[0])  # the least urgent of all, as most are that come
            self._note(rows)
            return
        for number, part in reversed(self._parts(rows)):
            block = self._blocks[number]
            if len(part) == 1:
                insort_right(block, part[0], key=ORDER)
            else:
                merge(block, part)
            if len(block) > MOST_BLOCK_ROWS:
                self._cut(number)
        self._note(rows)

    def remove(self, rows: Sequence[Row]) -> None:
        """Let rows go, at least one, all of which wait."""
        for number, part in reversed(self._parts(rows)):
            block = self._blocks[number]
            start = bisect_left(block, part[0].order, key=ORDER)
            stop = start + 1 if len(part) == 1 else bisect_right(block, part[-1].order, start, key=ORDER)
            if stop - start == len(part):
                del block[start:stop]
            else:
                gone = set(part)
                block[start:stop] = [row for row in block[start:stop] if row not in gone]
            if not block:
                del self._blocks[number]
                del self._bounds[max(0, number - 1) : max(1, number)]
        self._count -= len(rows)
        if self._by_length is not None:
            for row in rows:
                self._by_length[row.length].remove((row,))
                if not self._by_length[row.length]:
                    del self._by_length[row.length]

    def _note(self, rows: Sequence[Row]) -> None:
        """Count rows that have come, and have them found by their length, if anybody asks for that."""
        self._count += len(rows)
        if self._by_length is not None:
            for row in rows:
                self._by_length[row.length].add((row,))

    def _parts(self, rows: Sequence[Row]) -> list[tuple[int, Sequence[Row]]]:
        """Return the rows sorted and dealt out to the blocks in whose bounds they are, with the blocks' numbers."""
        bounds = self._bounds
        if len(rows) == 1:
            return [(bisect_right(bounds, rows[0].order), rows)]
        rows = sorted(rows, key=ORDER)
        parts: list[tuple[int, Sequence[Row]]] = []
        start = 0
        while start < len(rows):
            number = bisect_right(bounds, rows[start].order)
            stop = bisect_left(rows, bounds[number], start, key=ORDER) if number < len(bounds) else len(rows)
            parts.append((number, rows[start:stop]))
            start = stop
        return parts

    def _cut(self, number: int) -> None:
        """Make a block that is too large several of about half the size."""
        block = self._blocks[number]
        size = -(-len(block) // (len(block) * 2 // MOST_BLOCK_ROWS))
        pieces = [block[start : start + size] for start in range(0, len(block), size)]
        self._blocks[number : number + 1] = pieces
        self._bounds[number:number] = [piece[0].order for piece in pieces[1:]]
