"""What the numbers in a Reshape's target mean: batch, time or themselves.

A reshape keeps the order of all numbers, so the product of the fixed axes before batch (and before time) is the same in
its input and its output. Of the meanings that keep it so, the plainest is taken: axes that are exactly batch or time
before those that merge both, and these before those that merge one with features.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from export.onnx_file.probing import Size

SYMBOLS = ("batch", "time")
MERGED, WITH_FEATURES = 1, 5
INFERRED, COPIED = -1, 0


class Frozen(NamedTuple):
    """The numbers that stand for batch and time in a file; None where the file's inputs leave them free."""

    batch: int | None
    time: int | None


def read_target(
    data: Sequence[Size | None], target: Sequence[int | Size], frozen: Frozen, *, allow_zero: bool
) -> list[Size | None] | None:
    """Return what each axis of the target stands for, None in it for the one left to be inferred.

    Args:
        data: axes of what is reshaped.
        target: the shape given: numbers as the file has them, or a size where it is computed already.
        frozen: the file's numbers of batch and time.
        allow_zero: 0 means an empty axis instead of a copied one.

    Returns:
        None if no meaning fits.
    """
    sizes = [size for size in data if size is not None]
    if len(sizes) != len(data):
        return None
    given = list(target)
    for i, item in enumerate(given):
        if item == COPIED and not allow_zero and i < len(sizes):
            given[i] = sizes[i]
    readings = [(cost, reading) for cost, reading in _readings(sizes, given, frozen) if _same_order(sizes, reading)]
    if not readings:
        return None
    best = min(readings, key=lambda item: item[0])[1]
    return [None if item == INFERRED else size for item, size in zip(given, best, strict=True)]


def _readings(data: Sequence[Size], target: Sequence[int | Size], frozen: Frozen) -> Iterator[tuple[int, list[Size]]]:
    """Yield every way to place batch and time on the target's axes that leaves as many numbers as there were."""
    fixed = [item if isinstance(item, Size) else Size(1, batch=False, time=False) for item in target]
    open_symbols = [
        symbol
        for symbol in SYMBOLS
        if any(getattr(size, symbol) for size in data) and not any(getattr(size, symbol) for size in fixed)
    ]
    places = [i for i, item in enumerate(target) if not isinstance(item, Size)]
    for chosen in product(places, repeat=len(open_symbols)):
        at = dict(zip(open_symbols, chosen, strict=True))
        reading = _placed(target, at, frozen, prod(size.number for size in data))
        if reading is not None:
            yield _cost(reading), reading


def _placed(target: Sequence[int | Size], at: Mapping[str, int], frozen: Frozen, count: int) -> list[Size] | None:
    sizes: list[Size] = []
    for i, item in enumerate(target):
        if isinstance(item, Size):
            sizes.append(item)
            continue
        here = {symbol: at.get(symbol) == i for symbol in SYMBOLS}
        number = item if item == INFERRED else _features(item, here, frozen)
        if number is None:
            return None
        sizes.append(Size(number, **here))
    known = prod(size.number for size in sizes if size.number != INFERRED)
    rest = count // known if known > 0 and count % known == 0 else 0
    if rest < 1 or (rest > 1 and all(size.number != INFERRED for size in sizes)):
        return None
    return [size._replace(number=rest) if size.number == INFERRED else size for size in sizes]


def _features(number: int, here: Mapping[str, bool], frozen: Frozen) -> int | None:
    """Return what is left of a number when the batch or time in it is taken out; None if they are not in it."""
    for symbol in SYMBOLS:
        if here[symbol]:
            inside = getattr(frozen, symbol) or number
            if number < 1 or number % inside:
                return None
            number //= inside
    return number if number >= 1 else None


def _cost(reading: Sequence[Size]) -> int:
    merged = sum(MERGED for size in reading if size.batch and size.time)
    return merged + sum(WITH_FEATURES for size in reading if (size.batch or size.time) and size.number > 1)


def _same_order(data: Sequence[Size], reading: Sequence[Size]) -> bool:
    before, after = _before(data), _before(reading)
    if before.keys() != after.keys() or any(before[key][0] != after[key][0] for key in before):
        return False
    if len(before) < len(SYMBOLS):
        return True
    order = [places["batch"][1] - places["time"][1] for places in (before, after)]
    return 0 in order or (order[0] > 0) == (order[1] > 0)


def _before(sizes: Sequence[Size]) -> dict[str, tuple[int, int]]:
    """Return per symbol the product of the fixed numbers before its axis, and the axis."""
    found = {}
    for symbol in SYMBOLS:
        for i, size in enumerate(sizes):
            if getattr(size, symbol):
                found[symbol] = (prod(other.number for other in sizes[:i]), i)
    return found
