"""One model's queue and the rule that forms its batches.

Promises, each a property test:

1. An admitted ticket leaves exactly once: in a batch, expired, or cancelled.
2. No batch exceeds `max_batch_rows`, but for a single larger ticket, which runs alone; without `mixed_lengths` all its
   tickets have one length.
3. The oldest waiting ticket is in every batch, so nobody starves. Younger ones may overtake those between that do not
   fit; a ticket that would fit is never passed over for a younger one.
4. Nothing is run at or after its deadline.
5. Whenever a ticket waits, a poll gives a batch: an idle engine never waits for company.
6. The queue never holds more than `max_queue_rows` rows.
"""

from serving.batching.tickets import Batch, Decision, Limits, Refusal, Ticket


class Batcher:
    """Queue of one model. Not thread-safe; told the time, never asks for it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: dict[int, Ticket] = {}  # in order of admission
        self._queued_rows = 0
        self._draining = False

    def __repr__(self) -> str:
        return f"Batcher(tickets={len(self._waiting)}, rows={self._queued_rows}, draining={self._draining})"

    @property
    def queued_rows(self) -> int:
        """Rows that wait now."""
        return self._queued_rows

    def admit(self, ticket: Ticket, *, now_ns: int) -> Refusal | None:
        """Take the ticket into the queue, or say why not; a refused ticket is not kept."""
        if self._draining:
            return Refusal.DRAINING
        if ticket.deadline_ns <= now_ns:
            return Refusal.DEADLINE_PASSED
        if self._queued_rows + ticket.rows > self._limits.max_queue_rows:
            return Refusal.QUEUE_FULL
        self._waiting[ticket.id] = ticket
        self._queued_rows += ticket.rows
        return None

    def cancel(self, ticket_id: int) -> bool:
        """Take a ticket out of the queue; False if it is not there (left already, or never admitted)."""
        return self._leave(ticket_id)

    def drain(self) -> None:
        """Admit nothing from now on; what waits is still run."""
        self._draining = True

    def poll(self, now_ns: int) -> Decision:
        """Decide what happens now; call it whenever the engine is free and something may be waiting."""
        expired = tuple(ticket for ticket in self._waiting.values() if ticket.deadline_ns <= now_ns)
        for ticket in expired:
            self._leave(ticket.id)
        return Decision(expired=expired, batch=self._form_batch())

    def _form_batch(self) -> Batch | None:
        if not self._waiting:
            return None
        oldest = next(iter(self._waiting.values()))
        chosen = [oldest]
        room = self._limits.max_batch_rows - oldest.rows
        for ticket in self._waiting.values():
            if room <= 0:
                break
            fits = ticket.rows <= room and (self._limits.mixed_lengths or ticket.steps == oldest.steps)
            if fits and ticket is not oldest:
                chosen.append(ticket)
                room -= ticket.rows
        for ticket in chosen:
            self._leave(ticket.id)
        return Batch(tickets=tuple(chosen))

    def _leave(self, ticket_id: int) -> bool:
        ticket = self._waiting.pop(ticket_id, None)
        if ticket is None:
            return False
        self._queued_rows -= ticket.rows
        return True
