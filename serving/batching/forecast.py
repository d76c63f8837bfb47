"""When the present work will be done, and so whether a new ticket's deadline can be kept.

An estimate in closed form, not a simulation. A batch is a number of slots; rows take them in the order of urgency, so a
row begins when the work before it, spread over the slots, is done, and is done when its own steps, one after the other,
are (the bound of list scheduling: Graham, "Bounds on Multiprocessing Timing Anomalies", 1969).
"""

from bisect import bisect, bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from serving.batching.cost import Coefficients, CostModel
from serving.batching.policies import ENDLESS_STEPS, Policy
from serving.batching.tickets import NANOSECONDS, NEVER_NS, Batch, Order, Row, Ticket

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
        slots: rows that run at a time.
        overtaking: rows that may run before a more urgent one.
    """

    per_row: float
    per_step: float
    call: float
    step: float
    chunk: int
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

    @property
    def tick(self) -> float:
        """The seconds of a call of full chunks, within which a row that waits may become free to run."""
        return self.call + self.step * self.chunk if self.chunk < ENDLESS_STEPS else 0.0


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
        self._joins_at_once = rates.slots if rates.chunk < ENDLESS_STEPS else 0
        self._orders = [row.order for row in rows]
        self._deadlines_ns = [row.ticket.deadline_ns for row in rows]
        self._begins = [0.0]
        for row in rows:
            self._begins.append(self._begins[-1] + rates.work(1, row.length - row.planned))
        self._overtaken = self._begins[-1] * min(1.0, rates.overtaking / max(1, len(rows)))
        self._latest_starts_ns = [self._latest_ns(rank, row, base_ns) for rank, row in enumerate(rows)]
        self._strictest_ns = _least_from_each(self._latest_starts_ns)
        self._added: list[Row] = []

    @property
    def additions(self) -> int:
        """Rows added since it was made."""
        return len(self._added)

    def add(self, rows: Sequence[Row]) -> None:
        """Note rows that were admitted."""
        self._added += rows

    def place(self, new: Sequence[Row], *, base_ns: int) -> Place:
        """Return where in the queue the rows of a ticket break no deadline that was kept so far, and what that costs.

        Args:
            new: rows of the ticket that has come.
            base_ns: when the present calls end.
        """
        rates = self._rates
        ours = rates.work(len(new), sum(row.length for row in new))
        alone = rates.alone(max(row.length for row in new))
        if len(self._orders) + len(self._added) + len(new) <= self._joins_at_once:
            late_ns = _late_ns(new[0].ticket, base_ns, alone)
            return Place(key_ns=None, late_ns=late_ns, away_ns=self._slowed_ns(base_ns))
        key_ns, last = None, max(row.order for row in new)
        position, added = bisect(self._orders, last), self._work_added(None)
        delayed_ns = base_ns + int((added + ours) * NANOSECONDS)
        if self._strictest_ns[bisect(self._orders, min(row.order for row in new))] < delayed_ns:
            broken = bisect_left(self._strictest_ns, delayed_ns) - 1
            if broken >= position:
                position, last = broken + 1, self._orders[broken]
            key_ns = last[0] + 1
            last = (key_ns, *last[1:])
        begin = 0.0
        if position + len(self._added) + len(new) > self._joins_at_once:
            begin = self._begins[position] + self._overtaken + rates.tick + self._work_added(last)
            begin += ours if len(new) > 1 else 0.0
        return Place(key_ns=key_ns, late_ns=_late_ns(new[0].ticket, base_ns, begin + alone))

    def _latest_ns(self, rank: int, row: Row, base_ns: int) -> int:
        """Return when the present calls must end for the row to be in time; `NEVER_NS` if that is lost, or needless."""
        if row.ticket.deadline_ns == NEVER_NS:
            return NEVER_NS
        seconds = self._rates.alone(row.length - row.planned)
        if rank >= self._joins_at_once:
            seconds += self._begins[rank] + self._overtaken + self._rates.tick
        latest_ns = row.ticket.deadline_ns - int(seconds * NANOSECONDS)
        return latest_ns if latest_ns + int(GIVEN_UP * seconds * NANOSECONDS) >= base_ns else NEVER_NS

    def _slowed_ns(self, base_ns: int) -> int:
        """Return when the last of those is gone that more company would make late; 0 if there are none."""
        if self._strictest_ns[0] >= base_ns:
            return 0
        gone_ns = max(
            deadline_ns - base_ns
            for deadline_ns, latest_ns in zip(self._deadlines_ns, self._latest_starts_ns, strict=True)
            if latest_ns < base_ns
        )
        return max(0, gone_ns)  # deadlines may have come since this was made, and their tickets not have been let go

    def _work_added(self, before: Order | None) -> float:
        """Return the work of rows added that are more urgent, of all with None."""
        rows = [row.length for row in self._added if before is None or row.order < before]
        return self._rates.work(len(rows), sum(rows))


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
        slots = together * self._instances
        return Rates(
            per_row=call / slots * self.waste,
            per_step=step / slots * self.waste,
            call=call,
            step=step,
            chunk=self._policy.chunk_steps(together),
            slots=slots,
            overtaking=self._policy.overtaking_rows(),
        )

    def seconds_alone(self, steps: int) -> float:
        """Return the seconds of one row on an idle engine."""
        return self._cost.seconds(1, steps)


def _least_from_each(values: Sequence[int]) -> list[int]:
    """Return for each position the least of the values from there on; one more, `NEVER_NS`, for the end."""
    least = [NEVER_NS] * (len(values) + 1)
    for position in reversed(range(len(values))):
        least[position] = min(values[position], least[position + 1])
    return least


def _late_ns(ticket: Ticket, base_ns: int, seconds: float) -> int:
    return max(0, base_ns + int(seconds * NANOSECONDS) - ticket.deadline_ns)
