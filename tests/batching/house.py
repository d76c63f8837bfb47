"""What the batcher's tests share: tickets, and cost models that know exactly what a call costs."""

import random
from collections.abc import Sequence

from serving.batching import NEVER_NS, CostModel, Ticket
from serving.batching.tickets import Row
from serving.batching.waiting import Waiting

WARM_UP_SHAPES = ((1, 1), (1, 12), (32, 1), (1, 100), (32, 12), (32, 100))
"""Rows and steps of the calls made when a model is loaded."""
SECOND_NS = 1_000_000_000


class Engine:
    """What calls take, by an exact formula."""

    def __init__(
        self, *, call: float = 2e-4, step: float = 5e-5, row_step: float = 5e-6, padding_free: bool = False
    ) -> None:
        """Take seconds per call, per step, and per row and step, and whether only real steps count in the last."""
        self.call = call
        self.step = step
        self.row_step = row_step
        self.padding_free = padding_free

    def seconds(self, rows: int, steps: int, real_steps: int | None = None) -> float:
        """Return what a call of so many rows, padded to so many steps, takes; all of them real with None."""
        area = rows * steps if real_steps is None or not self.padding_free else real_steps
        return self.call + self.step * steps + self.row_step * area

    def warm_cost(self) -> CostModel:
        """Make a cost model of this engine that has seen the calls of a warm-up."""
        cost = CostModel(padding_free=self.padding_free)
        cost.warm_start([(rows, steps, self.seconds(rows, steps)) for rows, steps in WARM_UP_SHAPES])
        return cost


def ticket(
    number: int,
    *lengths: int,
    enqueued_ns: int = 0,
    deadline_ns: int = NEVER_NS,
    handicap_ns: int = 0,
) -> Ticket:
    """Make a ticket of rows of such lengths, one row of five steps if none are given."""
    return Ticket(
        id=number,
        lengths=lengths or (5,),
        enqueued_ns=enqueued_ns,
        deadline_ns=deadline_ns,
        handicap_ns=handicap_ns,
    )


def tickets(lengths: Sequence[int]) -> list[Ticket]:
    """Make one-row tickets of such lengths that came at once, in this order."""
    return [ticket(number, steps) for number, steps in enumerate(lengths)]


def queue_of(rows: Sequence[Row]) -> Waiting:
    """Let rows wait."""
    waiting = Waiting()
    waiting.add(rows)
    return waiting


def seeded(seed: int) -> random.Random:
    """Make a generator that draws the same on every machine."""
    return random.Random(seed)  # noqa: S311  nothing here is a secret
