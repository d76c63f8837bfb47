"""Which of the waiting rows run next: one class per way of batching, chosen by what the model can do.

A policy sees the waiting rows, most urgent first, and picks some. It never waits: whenever a row waits, it picks one at
least, and always the most urgent one, so that nobody starves.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.batching.cost import Coefficients, CostModel
from serving.batching.tickets import NANOSECONDS, NEVER_NS, Row, Ticket
from serving.batching.waiting import Waiting
from serving.batching.window import cheapest_group, quickest_group

KNEE = 0.8
"""Rows per batch are worth adding until a row costs no more than 1 / KNEE of what it costs in an endless batch."""
LEAST_AUTO_ROWS = 32
"""Of whole sequences, which no tick bounds: short ones have a call's fixed cost to share as well."""
LARGEST_AUTO_ROWS = 128
"""Beyond it, what a call costs is spread thinly enough for every model we measured."""
LEAST_CHUNK_STEPS = 8
"""Shorter chunks do not carry the fixed cost of their calls; fewer rows are better then (measured: 8 to 16 is best)."""
ENDLESS_STEPS = 2**31
PATIENCE = 2
"""Twice its own run is what a sequence may wait for shorter ones: with once, many long ones still slow them down."""
WINDOW_BATCHES = 3
"""Rows that a whole-sequence policy looks at, in batches: enough to find similar lengths, few enough to be quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Rows to run next, all of them padded to `steps` steps or cut there."""

    rows: Sequence[Row]
    steps: int


class Policy(Protocol):
    """Picks rows for engine calls."""

    def key_ns(self, ticket: Ticket, steps: int) -> int:
        """Return when a row of so many steps should start at the latest; the smallest goes first."""

    def most_rows(self) -> int:
        """Return how many rows a call should have at most."""

    def chunk_steps(self, rows: int) -> int:
        """Return how many steps a call of so many rows should run at most."""

    def overtaking_rows(self) -> int:
        """Return how many rows may run before a more urgent one does."""

    def pick(self, waiting: Waiting, *, most_rows: int, now_ns: int) -> Pick:
        """Pick from the waiting rows, at least one, `most_rows` at most."""


class _LeastSlack(ABC):
    """The order of the latest start, in terms that are made anew when the cost model has learned."""

    def __init__(self, cost: CostModel, max_rows: int | None) -> None:
        self._cost = cost
        self._max_rows = max_rows
        self._known: Coefficients | None = None
        self._most_rows = 1
        self._full_call = 0.0
        self._full_step = 0.0

    def key_ns(self, ticket: Ticket, steps: int) -> int:
        """Return the least slack's order (see `latest_start_ns`)."""
        if self._cost.coefficients() is not self._known:
            self._look_anew()
        return latest_start_ns(ticket, self._full_call + steps * self._full_step)

    def most_rows(self) -> int:
        """Return the rows of a call that the costs ask for, unless they are set."""
        if self._cost.coefficients() is not self._known:
            self._look_anew()
        return self._most_rows

    def _look_anew(self) -> None:
        now = self._known = self._cost.coefficients()
        self._most_rows = self._rows_for(now) if self._max_rows is None else self._max_rows
        self._full_call, self._full_step = now.fixed(self._most_rows), now.per_step(self._most_rows)

    @abstractmethod
    def _rows_for(self, now: Coefficients) -> int:
        """Return the rows that a call should have at most."""


class Stepwise(_LeastSlack):
    """Chunks of steps for models that carry their state: rows join and leave a running batch at every chunk's edge.

    Source: cellular batching (Gao et al., "Low Latency RNN Inference with Cellular Batching", EuroSys 2018).
    """

    def __init__(
        self, cost: CostModel, *, tick_seconds: float, max_rows: int | None = None, steps: int | None = None
    ) -> None:
        """Choose chunks.

        Args:
            cost: of engine calls.
            tick_seconds: how long a call should take.
            max_rows: rows of a call; None takes as many as the tick has time for, and as pay in any case.
            steps: of every chunk; None takes as many as the tick has time for.
        """
        super().__init__(cost, max_rows)
        self._tick_seconds = tick_seconds
        self._steps = steps

    def _rows_for(self, now: Coefficients) -> int:
        """Return the rows that the tick has time for at short chunks, but no fewer than pay."""
        seconds_left = self._tick_seconds - now.call - LEAST_CHUNK_STEPS * now.step
        in_time = seconds_left / (now.row + LEAST_CHUNK_STEPS * now.row_step)
        return max(1, min(LARGEST_AUTO_ROWS, int(max(in_time, _knee_rows(now)))))

    def chunk_steps(self, rows: int) -> int:
        """Return the steps that the tick has time for, at least one."""
        if self._steps is not None:
            return self._steps
        now = self._cost.coefficients()
        return max(1, int((self._tick_seconds - now.fixed(rows)) / now.per_step(rows)))

    def overtaking_rows(self) -> int:
        """Return none: the most urgent rows run."""
        return 0

    def pick(self, waiting: Waiting, *, most_rows: int, now_ns: int) -> Pick:
        """Take the most urgent rows, and the chunk that gets most real steps done per second.

        A chunk that ends where a short row ends wastes nothing on that row, but costs a call of its own: the cost model
        weighs the two, and knows whether the short row's padding costs anything.
        """
        del now_ns
        rows = waiting.first(most_rows)
        remaining = sorted([row.remaining for row in rows])
        limit = min(remaining[-1], self.chunk_steps(len(rows)))
        return Pick(rows=rows, steps=limit if self._steps is not None else self._best_chunk(remaining, limit))

    def _best_chunk(self, remaining: Sequence[int], limit: int) -> int:
        """Return the best chunk up to a limit for rows of ascending numbers of steps."""
        now, count = self._cost.coefficients(), len(remaining)
        call, step, row_step = now.fixed(count), now.per_step(count), now.row_step
        best, best_rate, finished, seen = limit, 0.0, 0, 0
        for position, steps in enumerate(remaining):
            if steps != seen:  # equal rows make one and the same chunk
                seen, chunk = steps, min(steps, limit)
                real_steps = finished + (count - position) * chunk
                spared = count * chunk - real_steps if self._cost.padding_free else 0
                rate = real_steps / (call + chunk * step - spared * row_step)
                if rate >= best_rate:
                    best, best_rate = chunk, rate
                if steps >= limit:
                    break
            finished += steps
        return best


class _Uncut(_LeastSlack):
    """What policies that run each row in one call have in common."""

    def __init__(self, cost: CostModel, *, max_rows: int | None = None) -> None:
        """Choose whole rows; `max_rows` None takes as many rows per call as pay."""
        super().__init__(cost, max_rows)

    def _rows_for(self, now: Coefficients) -> int:
        """Return the rows beyond which another one saves next to nothing."""
        return max(LEAST_AUTO_ROWS, min(LARGEST_AUTO_ROWS, int(_knee_rows(now))))

    def chunk_steps(self, rows: int) -> int:
        """Return a number that no row reaches."""
        del rows
        return ENDLESS_STEPS

    def overtaking_rows(self) -> int:
        """Return the window, any of whose rows may suit a more urgent one's neighbour better."""
        return (WINDOW_BATCHES + 1) * self.most_rows()


class WholeSequence(_Uncut):
    """Similar lengths together, for models that need each sequence at once (bidirectional, attention)."""

    def pick(self, waiting: Waiting, *, most_rows: int, now_ns: int) -> Pick:
        """Take, of a window of the queue sorted by length, the group around the most urgent row that suits it best."""
        window = waiting.first(WINDOW_BATCHES * most_rows)
        group_of = quickest_group if self._cost.padding_free else cheapest_group
        group = group_of(window, self._cost, most_rows)
        self._leave_in_time(group, window[0], now_ns)
        return Pick(rows=group, steps=max([row.length for row in group]))

    def _leave_in_time(self, group: list[Row], urgent: Row, now_ns: int) -> None:
        """Drop the longest rows while they would make a member late that could still be in time without them."""
        strictest = min(group, key=lambda row: row.ticket.deadline_ns)
        if strictest.ticket.deadline_ns == NEVER_NS:
            return
        seconds_left = (strictest.ticket.deadline_ns - now_ns) / NANOSECONDS
        others = sorted(
            (row for row in group if row is not strictest and row is not urgent), key=lambda row: row.length
        )
        least_steps = max(strictest.length, urgent.length)
        real_steps = sum(row.length for row in group)
        others_steps = sum(row.length for row in others)
        if self._cost.seconds(len(group) - len(others), least_steps, real_steps - others_steps) > seconds_left:
            return
        while others and self._cost.seconds(len(group), max(least_steps, others[-1].length), real_steps) > seconds_left:
            group.remove(others[-1])
            real_steps -= others.pop().length


class EqualLengths(_Uncut):
    """Rows of exactly one length, for models whose answers padding would change."""

    def pick(self, waiting: Waiting, *, most_rows: int, now_ns: int) -> Pick:
        """Take the most urgent row, and the next ones of its length."""
        del now_ns
        (urgent,) = waiting.first(1)
        return Pick(rows=waiting.first_of_length(urgent.length, most_rows), steps=urgent.length)


class Fifo(_Uncut):
    """The order of arrival, padded to the longest, as a plain batcher does: what the others are measured against."""

    def key_ns(self, ticket: Ticket, steps: int) -> int:
        """Return when it arrived."""
        del steps
        return ticket.enqueued_ns

    def pick(self, waiting: Waiting, *, most_rows: int, now_ns: int) -> Pick:
        """Take the first rows."""
        del now_ns
        rows = waiting.first(most_rows)
        return Pick(rows=rows, steps=max([row.length for row in rows]))


def latest_start_ns(ticket: Ticket, seconds: float) -> int:
    """Return when a row should start at the latest, if it takes `seconds` in full company.

    With a deadline that binds, so that it ends in time (least slack first). Otherwise it may wait `PATIENCE` times as
    long as it will run, so that a long sequence yields to short ones, and for no longer than that: who arrives later
    than this moment comes behind it. The ticket's handicap shifts both.
    """
    work_ns = int(seconds * NANOSECONDS)
    return min(ticket.enqueued_ns + PATIENCE * work_ns, ticket.deadline_ns - work_ns) + ticket.handicap_ns


def _knee_rows(now: Coefficients) -> float:
    """Solve row_step / (step / rows + row_step) = KNEE."""
    return KNEE / (1 - KNEE) * now.step / now.row_step
