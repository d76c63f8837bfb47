"""When the present work will be done, and so whether a new ticket's deadline can be kept.

An estimate in closed form, not a simulation. A batch is a number of slots; rows take them in the order of urgency, so a
row begins when the work before it, spread over the slots, is done, and is done when its own steps, one after the other,
are (the bound of list scheduling: Graham, "Bounds on Multiprocessing Timing Anomalies", 1969).
"""

from bisect import bisect, bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from serving.batching.cost import Coefficients, CostModel
from serving.batching.policies import ENDLESS_STEPS, Policy
from serving.batching.tickets import NANOSECONDS, NEVER_NS, Batch, Order, Row, Ticket
from serving.batching.waiting import ORDER

MEMORY_CALLS = 32
"""A call weighs 1/e of the newest after as many calls."""
GIVEN_UP = 0.1
"""A row that is predicted later than its deadline by this share of the time it has to go is lost; one that is less late
is still protected: the prediction may be wrong, and what overtakes it would make it true."""


class Rates(NamedTuple):
    """What rows cost in the present company.

    Attributes:
        per_row: seconds of the engine per row and call.
        per_step: seconds of the engine per row and step.
        call: seconds that pass in a call beside its steps.
        step: seconds that pass while a batch makes one step.
        chunk: steps of a call.
        tick: seconds of a call of full chunks, within which a row that waits may become free to run; 0 without chunks.
        slots: rows that run at a time.
        overtaking: rows that may run before a more urgent one.
    """

    per_row: float
    per_step: float
    call: float
    step: float
    chunk: int
    tick: float
    slots: int
    overtaking: int

    def work(self, rows: int, steps: int) -> float:
        """Return the engine's seconds for so many rows of so many steps in sum."""
        return self.per_row * (rows + steps // self.chunk) + self.per_step * steps

    def alone(self, steps: int) -> float:
        """Return the seconds until a row that always runs has made its steps: up to the end of its last call."""
        if self.chunk >= ENDLESS_STEPS:
            return self.call + self.step * steps
        return -(-steps // self.chunk) * self.tick

    def up_to(self, longest_steps: int) -> "Rates":
        """Return the rates while no row has more steps than these, which no call then exceeds."""
        if self.chunk >= ENDLESS_STEPS or longest_steps >= self.chunk:
            return self
        return self._replace(tick=self.call + self.step * longest_steps)


class Place(NamedTuple):
    """Where a ticket may stand in the queue.

    Attributes:
        key_ns: its least urgency there; None leaves it its own.
        late_ns: by how much it would miss its deadline there; 0 if it would not.
        away_ns: how long it has to stay away, because any more company would make others late; 0 if it need not.
    """

    key_ns: int | None
    late_ns: int
    away_ns: int = 0


class Timetable:
    """When each live row will begin and be done, counted from when the present calls end.

    Stays true while nothing but `add` happens: for the arrivals of one tick, most of which an overload refuses.
    """

    def __init__(self, rows: Sequence[Row], rates: Rates, *, base_ns: int) -> None:
        """Look at the rows.

        Args:
            rows: that are live, most urgent first, without those that the present calls finish.
            rates: at which they run.
            base_ns: when the present calls end.
        """
        self.slots = rates.slots
        self._rates = rates
        self._base_ns = base_ns
        self._joins_at_once = rates.slots if rates.chunk < ENDLESS_STEPS else 0
        self._rows = rows
        self._steps = [row.length - row.planned for row in rows]
        self._latest_starts_ns = [NEVER_NS] * len(rows)
        self._strictest_ns = [NEVER_NS] * (len(rows) + 1)
        self._looked_at = len(rows)
        """From this rank on the two above are what they should be: most tickets join near the end."""
        self._longest_steps = self.longest_steps
        self._added_orders: list[Order] = []  # ascending
        self._added_steps: list[int] = []

    @property
    def longest_steps(self) -> int:
        """The most steps that a row makes from when the present calls end; 0 without rows."""
        return max(self._steps, default=0)

    @property
    def additions(self) -> int:
        """Rows added since it was made."""
        return len(self._added_orders)

    def add(self, rows: Sequence[Row]) -> None:
        """Note rows that were admitted."""
        for row in rows:
            rank = bisect(self._added_orders, row.order)
            self._added_orders.insert(rank, row.order)
            self._added_steps.insert(rank, row.length)
            self._longest_steps = max(self._longest_steps, row.length)

    def place(self, new: Sequence[Row], *, base_ns: int) -> Place:
        """Return where in the queue the rows of a ticket break no deadline that was kept so far, and what that costs.

        Args:
            new: rows of the ticket that has come.
            base_ns: when the present calls end.
        """
        longest_steps = max([row.length for row in new])
        rates = self._rates.up_to(max(self._longest_steps, longest_steps))
        alone = rates.alone(longest_steps)
        added, last = len(self._added_orders), max([row.order for row in new])
        if len(self._rows) + added + len(new) <= self._joins_at_once:
            late_ns = _late_ns(new[0].ticket, base_ns, alone)
            return Place(key_ns=None, late_ns=late_ns, away_ns=self._slowed_ns(base_ns))
        ours = rates.work(len(new), sum([row.length for row in new]))
        key_ns, position = None, bisect(self._rows, last, key=ORDER)
        delayed_ns = base_ns + int((self._work_added(added) + ours) * NANOSECONDS)
        first = bisect(self._rows, min([row.order for row in new]), key=ORDER)
        self._look_down_to(first, until_ns=delayed_ns)
        broken = bisect_left(self._strictest_ns, delayed_ns, max(first, self._looked_at)) - 1
        if broken >= first:
            if broken >= position:
                position, last = broken + 1, self._rows[broken].order
            key_ns = last[0] + 1
            last = (key_ns, *last[1:])
        begin = 0.0
        if position + added + len(new) > self._joins_at_once:
            begin = self._begins[position] + self._overtaken + rates.tick
            begin += self._work_added(bisect_left(self._added_orders, last))
            begin += ours if len(new) > 1 else 0.0
        return Place(key_ns=key_ns, late_ns=_late_ns(new[0].ticket, base_ns, begin + alone))

    @cached_property
    def _begins(self) -> list[float]:
        """Seconds of work before each row, and one more: all of it."""
        works = {steps: self._rates.work(1, steps) for steps in set(self._steps)}
        return list(accumulate([works[steps] for steps in self._steps], initial=0.0))

    @cached_property
    def _overtaken(self) -> float:
        """Seconds of work that may be done before a more urgent row begins."""
        return self._begins[-1] * min(1.0, self._rates.overtaking / max(1, len(self._rows)))

    def _look_down_to(self, first: int, *, until_ns: int) -> None:
        """Find out when the present calls must end for rows to be in time: from the last rank to one that is asked for.

        Args:
            first: rank.
            until_ns: where calls must end before it, no more need be known.
        """
        rates = self._rates.up_to(self._longest_steps)
        rows, steps, alone, joins_at_once = self._rows, self._steps, rates.alone, self._joins_at_once
        begins, overtaken = (self._begins, self._overtaken) if len(rows) > joins_at_once else ([], 0.0)
        strictest_ns, latest_starts_ns = self._strictest_ns, self._latest_starts_ns
        rank, least_ns = self._looked_at, self._strictest_ns[self._looked_at]
        while rank > first and least_ns >= until_ns:
            rank -= 1
            deadline_ns = rows[rank].ticket.deadline_ns
            if deadline_ns != NEVER_NS:
                seconds = alone(steps[rank])
                if rank >= joins_at_once:
                    seconds += begins[rank] + overtaken + rates.tick
                latest_ns = deadline_ns - int(seconds * NANOSECONDS)
                if latest_ns >= self._base_ns or not self._is_lost(latest_ns, seconds):
                    latest_starts_ns[rank] = latest_ns
                    least_ns = min(least_ns, latest_ns)
            strictest_ns[rank] = least_ns
        self._looked_at = rank

    def _is_lost(self, latest_ns: int, seconds: float) -> bool:
        """Return whether a row that takes so long, if the present calls end in time, is given up, since they do not."""
        return latest_ns + int(GIVEN_UP * seconds * NANOSECONDS) < self._base_ns

    def _slowed_ns(self, base_ns: int) -> int:
        """Return when the last of those is gone that more company would make late; 0 if there are none."""
        self._look_down_to(0, until_ns=-NEVER_NS)
        if self._strictest_ns[0] >= base_ns:
            return 0
        gone_ns = max(
            row.ticket.deadline_ns - base_ns
            for row, latest_ns in zip(self._rows, self._latest_starts_ns, strict=True)
            if latest_ns < base_ns
        )
        return max(0, gone_ns)  # deadlines may have come since this was made, and their tickets not have been let go

    def _work_added(self, rank: int) -> float:
        """Return the work of so many of the rows added, the most urgent ones."""
        return self._rates.work(rank, sum(self._added_steps[:rank]))


class Forecast:
    """Predicts for one batcher."""

    def __init__(self, cost: CostModel, policy: Policy, *, instances: int) -> None:
        self._cost = cost
        self._policy = policy
        self._instances = instances
        self._ideal_seconds = 0.0
        self._real_seconds = 0.0
        self.waste = 1.0
        """Seconds of recent calls over what they would take full and with rows of one length."""
        self._known: Coefficients | None = None
        self._most_rows = 1
        self._rates: dict[int, Rates] = {}  # by company; kept until the cost model learns

    def ran(self, batch: Batch) -> None:
        """Learn from a call how much dearer unequal rows, and company that did not fit, make work than it could be."""
        rates, steps = self.rates(batch.company), batch.real_steps
        ideal = (rates.per_row * batch.rows + rates.per_step * steps) * self._instances / self.waste
        keep = 1.0 - 1.0 / MEMORY_CALLS
        self._ideal_seconds = self._ideal_seconds * keep + ideal
        self._real_seconds = self._real_seconds * keep + self._cost.seconds(batch.rows, batch.steps, steps)
        self.waste = max(1.0, self._real_seconds / self._ideal_seconds)
        self._rates.clear()

    def rates(self, rows: int) -> Rates:
        """Return what a row costs when so many are live."""
        now = self._cost.coefficients()
        if now is not self._known:
            self._known, self._most_rows = now, self._policy.most_rows()
            self._rates.clear()
        together = max(1, min(-(-rows // self._instances), self._most_rows))
        if together not in self._rates:
            self._rates[together] = self._rates_of(together, now)
        return self._rates[together]

    def _rates_of(self, together: int, now: Coefficients) -> Rates:
        call, step = now.fixed(together), now.per_step(together)
        chunk, slots = self._policy.chunk_steps(together), together * self._instances
        return Rates(
            per_row=call / slots * self.waste,
            per_step=step / slots * self.waste,
            call=call,
            step=step,
            chunk=chunk,
            tick=call + step * chunk if chunk < ENDLESS_STEPS else 0.0,
            slots=slots,
            overtaking=self._policy.overtaking_rows(),
        )

    def seconds_alone(self, steps: int) -> float:
        """Return the seconds of one row on an idle engine."""
        return self._cost.seconds(1, steps)


def _late_ns(ticket: Ticket, base_ns: int, seconds: float) -> int:
    return max(0, base_ns + int(seconds * NANOSECONDS) - ticket.deadline_ns)
