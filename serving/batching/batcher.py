"""One model's live rows: who is admitted, what runs next, what is finished. The policy picks; this keeps the promises.

Promises, each a property test:

1. An admitted ticket leaves exactly once: finished, expired, or cancelled. Each step of its rows runs exactly once, in
   order, unless it left before.
2. No batch exceeds the rows that the policy allows; a larger ticket runs in several.
3. The most urgent waiting row is in every batch, and urgency never changes while a row waits: whoever arrives late
   enough comes behind it, so nobody starves.
4. Nothing is run at or after its deadline.
5. Whenever a row waits, a poll gives a batch: an idle engine never waits for company.
6. No more than `max_queue_rows` rows wait.
7. A ticket whose deadline cannot be met behind the present work is refused at once. One that would break a deadline
   that was accepted goes behind it, however urgent it is.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from serving.batching.cost import CostModel
from serving.batching.forecast import Forecast, Timetable
from serving.batching.policies import Pick, Policy
from serving.batching.refused import Refusals
from serving.batching.tickets import NANOSECONDS, NEVER_NS, Batch, Decision, Refusal, Refused, Row, Span, Ticket
from serving.batching.waiting import ORDER, Waiting, merge

PROBE_NS = NANOSECONDS
"""How often an idle model runs a ticket that it believes hopeless, so that a wrong belief is corrected."""
MOST_ADDED = 1 / 32
"""Of the live rows, how many may be admitted on one timetable: each makes it a little less exact."""


class _Live:
    """A ticket that has not left, and its rows."""

    __slots__ = ("rows", "ticket", "unfinished")

    def __init__(self, ticket: Ticket, rows: list[Row]) -> None:
        self.ticket = ticket
        self.rows = rows
        self.unfinished = len(rows)


class _Call(NamedTuple):
    """An engine call under way: when it should end, and its rows, some of whose tickets may have left."""

    end_ns: int
    rows: Sequence[Row]


class Batcher:
    """Live rows of one model. Not thread-safe; told the time, never asks for it."""

    def __init__(self, policy: Policy, cost: CostModel, *, max_queue_rows: int, instances: int = 1) -> None:
        """Start empty.

        Args:
            policy: picks rows; shares `cost`.
            cost: learns from `learn`.
            max_queue_rows: rows that may wait.
            instances: engine calls at a time.
        """
        self._max_queue_rows = max_queue_rows
        self._policy = policy
        self._cost = cost
        self._instances = instances
        self._forecast = Forecast(cost, policy, instances=instances)
        self._live: dict[int, _Live] = {}
        self._waiting = Waiting()
        self._deadlines: list[tuple[int, int]] = []  # heap of (deadline, ticket), also of some that have left
        self._live_rows = 0
        self._live_steps = 0
        self._longest_steps = 0  # of a live row, at most
        self._calls: dict[Span, _Call] = {}  # the present ones, by their first span
        self._timetable: Timetable | None = None
        self._refusals = Refusals()
        self._last_probe_ns = -PROBE_NS
        self._draining = False

    def __repr__(self) -> str:
        return (
            f"Batcher(tickets={len(self._live)}, waiting_rows={len(self._waiting)}, live_rows={self._live_rows}, "
            f"live_steps={self._live_steps}, draining={self._draining})"
        )

    @property
    def waiting_rows(self) -> int:
        """Rows that are not in the engine now."""
        return len(self._waiting)

    @property
    def live_rows(self) -> int:
        """Rows of live tickets that have steps left, waiting or in the engine."""
        return self._live_rows

    @property
    def live_tickets(self) -> int:
        """Tickets that have not left."""
        return len(self._live)

    @property
    def backlog_seconds(self) -> float:
        """Predicted seconds until everything accepted is done."""
        if not self._live:
            return 0.0
        return self._forecast.rates(self._live_rows).work(self._live_rows, self._live_steps)

    @property
    def next_deadline_ns(self) -> int:
        """The earliest deadline of a live ticket, `NEVER_NS` without one."""
        while self._deadlines and self._deadlines[0][1] not in self._live:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else NEVER_NS

    def admit(self, ticket: Ticket, *, now_ns: int) -> Refused | None:
        """Take the ticket, or say why not; a refused ticket is not kept."""
        refused = self._refusal_at_sight(ticket, now_ns)
        if refused is not None:
            return refused
        key_ns = self._policy.key_ns
        rows = [Row(ticket, index, key_ns(ticket, steps)) for index, steps in enumerate(ticket.lengths)]
        if not self._all_in_time(ticket, now_ns):
            refused = self._lateness(ticket, rows, now_ns)
            if refused is not None:
                return refused
        self._live[ticket.id] = _Live(ticket, rows)
        self._live_rows += len(rows)
        self._live_steps += sum(ticket.lengths)
        if ticket.deadline_ns != NEVER_NS:
            self._remember_deadline(ticket)
        self._longest_steps = max(self._longest_steps, *ticket.lengths)
        if self._timetable is not None:
            self._timetable.add(rows)
        self._waiting.add(rows)
        return None

    def cancel(self, ticket_id: int) -> bool:
        """Let a ticket go, whether it waits or runs; False if it is not there (left already, or never admitted)."""
        live = self._live.pop(ticket_id, None)
        if live is None:
            return False
        self._look_anew()
        waiting = [row for row in live.rows if row.done == row.planned < row.length]
        if waiting:
            self._waiting.remove(waiting)
        self._live_rows -= live.unfinished
        self._live_steps -= sum([row.remaining for row in live.rows])
        return True

    def drain(self) -> None:
        """Admit nothing from now on; what is live is still run."""
        self._draining = True

    def expire(self, now_ns: int) -> tuple[Ticket, ...]:
        """Let the tickets go whose deadline has come, waiting or running; earliest deadline first."""
        expired = []
        while self.next_deadline_ns <= now_ns:
            expired.append(self._live[self._deadlines[0][1]].ticket)
            self.cancel(expired[-1].id)
        return tuple(expired)

    def poll(self, now_ns: int, *, free_instances: int = 1) -> Decision:
        """Decide what happens now; call it whenever an engine is free and something may be waiting.

        Args:
            now_ns: the time.
            free_instances: engines that could take a part of what waits, the caller's with them.
        """
        expired = self.expire(now_ns)
        if not self._waiting:
            return Decision(expired=expired)
        share = -(-len(self._waiting) // free_instances)
        most_rows = self._policy.most_rows()
        pick = self._policy.pick(self._waiting, most_rows=min(share, most_rows), now_ns=now_ns)
        return Decision(expired=expired, batch=self._start(pick, now_ns, most_rows))

    def finished(self, batch: Batch) -> tuple[Ticket, ...]:
        """Take a batch back that ran; returns the tickets that are done with it, which have left.

        Args:
            batch: from `poll`; spans of tickets that left meanwhile are ignored.
        """
        self._calls.pop(batch.spans[0], None)
        self._look_anew()
        done, again, real_steps = [], [], 0
        for ticket_id, index, start, stop in batch.spans:
            live = self._live.get(ticket_id)
            if live is None:
                continue
            row = live.rows[index]
            row.done = row.planned = stop
            real_steps += stop - start
            if stop < row.length:
                again.append(row)
                continue
            self._live_rows -= 1
            live.unfinished -= 1
            if not live.unfinished:
                del self._live[ticket_id]
                done.append(live.ticket)
        self._live_steps -= real_steps
        if again:
            self._waiting.add(again)
        return tuple(done)

    def learn(self, batch: Batch, *, seconds: float) -> None:
        """Learn from what a batch took; best after its answers are on their way, since it takes longer than `finished`.

        Args:
            batch: that ran as a whole.
            seconds: from when the engine was free for it until it was finished.
        """
        self._cost.observe(rows=batch.rows, steps=batch.steps, real_steps=batch.real_steps, seconds=seconds)
        self._forecast.ran(batch)
        self._look_anew()

    def _refusal_at_sight(self, ticket: Ticket, now_ns: int) -> Refused | None:
        if self._draining:
            return Refused(why=Refusal.DRAINING)
        if ticket.deadline_ns <= now_ns:
            return Refused(why=Refusal.DEADLINE_PASSED)
        if len(self._waiting) + len(ticket.lengths) > self._max_queue_rows:
            return Refused(why=Refusal.QUEUE_FULL, retry_ns=int(self.backlog_seconds * NANOSECONDS))
        return None

    def _lateness(self, ticket: Ticket, rows: list[Row], now_ns: int) -> Refused | None:
        alone_ns = int(self._forecast.seconds_alone(max(ticket.lengths)) * NANOSECONDS)
        if now_ns + alone_ns > ticket.deadline_ns:
            return self._hopeless(alone_ns, now_ns)
        if not self._live:
            return None
        together = self._live_rows + len(rows)
        late_ns = self._refusals.late_ns(rows, now_ns=now_ns, together=together)
        if late_ns:
            return Refused(why=Refusal.OVERLOAD, retry_ns=late_ns)
        base_ns = self._base_ns(now_ns)
        place = self._timetable_with(len(rows), base_ns).place(rows, base_ns=base_ns)
        if place.late_ns or place.away_ns:
            self._refusals.note(rows, place, now_ns=now_ns, together=together)
            return Refused(why=Refusal.OVERLOAD, retry_ns=max(place.late_ns, place.away_ns))
        if place.key_ns is not None:
            for row in rows:
                row.order = (max(row.order[0], place.key_ns), *row.order[1:])
        return None

    def _look_anew(self) -> None:
        """Forget what was true of the work that was live so far."""
        self._timetable = None
        self._refusals.forget()

    def _all_in_time(self, ticket: Ticket, now_ns: int) -> bool:
        """Return whether everything, with the ticket, is done before the earliest deadline: true on most days."""
        deadline_ns = min(ticket.deadline_ns, self.next_deadline_ns)
        if deadline_ns == NEVER_NS:
            return True
        rows = self._live_rows + len(ticket.lengths)
        rates = self._forecast.rates(rows)
        seconds = rates.work(rows, self._live_steps + sum(ticket.lengths))
        longest_steps = max(self._longest_steps, *ticket.lengths)
        seconds += rates.up_to(longest_steps).alone(longest_steps)
        return self._base_ns(now_ns) + int(seconds * NANOSECONDS) <= deadline_ns

    def _base_ns(self, now_ns: int) -> int:
        """Return when the present calls end, the mean over all instances."""
        left_ns = 0
        for end_ns, _ in self._calls.values():
            if end_ns > now_ns:
                left_ns += end_ns - now_ns
        return now_ns + left_ns // self._instances

    def _timetable_with(self, rows: int, base_ns: int) -> Timetable:
        """Return the timetable for the company that so many more rows make."""
        table = self._timetable
        rates = self._forecast.rates(self._live_rows + rows)
        if table is None or table.additions >= MOST_ADDED * self._live_rows or table.slots != rates.slots:
            live, running = list(self._waiting), self._running()
            if running:
                merge(live, running)
            table = self._timetable = Timetable(live, rates, base_ns=base_ns)
            self._longest_steps = max([table.longest_steps, *(row.remaining for row in running)])
        return table

    def _running(self) -> list[Row]:
        """Return the live rows in the present calls that will have steps left after them, most urgent first."""
        rows = [row for call in self._calls.values() for row in call.rows if row.planned < row.length]
        return sorted([row for row in rows if row.ticket.id in self._live], key=ORDER)

    def _hopeless(self, alone_ns: int, now_ns: int) -> Refused | None:
        if not self._live and now_ns - self._last_probe_ns >= PROBE_NS:
            self._last_probe_ns = now_ns
            return None
        return Refused(why=Refusal.UNREACHABLE, predicted_ns=alone_ns)

    def _remember_deadline(self, ticket: Ticket) -> None:
        """Put it on the heap; drop those that left before their time when they are most of it."""
        if len(self._deadlines) > 2 * len(self._live) + 64:
            self._deadlines = [each for each in self._deadlines if each[1] in self._live]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (ticket.deadline_ns, ticket.id))

    def _start(self, pick: Pick, now_ns: int, most_rows: int) -> Batch:
        self._waiting.remove(pick.rows)
        spans, real_steps, steps = [], 0, pick.steps
        for row in pick.rows:
            start, stop = row.done, row.length
            if stop - start > steps:
                stop = start + steps
            row.planned = stop
            real_steps += stop - start
            spans.append(Span(row.ticket.id, row.index, start, stop))
        seconds = self._cost.seconds(len(spans), steps, real_steps)
        self._calls[spans[0]] = _Call(now_ns + int(seconds * NANOSECONDS), pick.rows)
        self._look_anew()
        return Batch(
            spans=tuple(spans),
            steps=steps,
            real_steps=real_steps,
            predicted_seconds=seconds,
            company=self._live_rows,
            most_rows=most_rows,
        )
