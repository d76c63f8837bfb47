"""The batcher's values: frozen, sizes in rows and steps, times in integer nanoseconds of one monotonic clock."""

import enum
from dataclasses import dataclass

NEVER_NS = 2**63 - 1
"""Later than any deadline (292 years in nanoseconds)."""


class Refusal(enum.Enum):
    """Why a ticket was not admitted."""

    QUEUE_FULL = "queue_full"
    DEADLINE_PASSED = "deadline"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A request as the batcher sees it: `rows` sequences, the longest of `steps` steps; never a tensor."""

    id: int
    rows: int
    steps: int
    enqueued_ns: int
    deadline_ns: int = NEVER_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a batch and the queue of one model may hold.

    A ticket with more than `max_batch_rows` rows is not cut: it runs alone. With `mixed_lengths` False a batch holds
    tickets of one length only (the model's answers would change with padding).
    """

    max_batch_rows: int
    max_queue_rows: int
    mixed_lengths: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tickets that run in one engine call, oldest first."""

    tickets: tuple[Ticket, ...]

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return sum(ticket.rows for ticket in self.tickets)

    @property
    def steps(self) -> int:
        """Steps of the longest row: what every row is padded to."""
        return max(ticket.steps for ticket in self.tickets)

    @property
    def padding_efficiency(self) -> float:
        """Steps asked for over steps computed, 0 < ratio <= 1."""
        return sum(ticket.rows * ticket.steps for ticket in self.tickets) / (self.rows * self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the caller must do now: fail `expired`, then run `batch` if there is one."""

    expired: tuple[Ticket, ...] = ()
    batch: Batch | None = None
