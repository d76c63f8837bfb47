"""The batcher's values: frozen, sizes in rows and steps, times in integer nanoseconds of one monotonic clock."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

NEVER_NS = 2**63 - 1
"""Later than any deadline (292 years in nanoseconds)."""
NANOSECONDS = 1_000_000_000
"""Of a second."""


class Refusal(enum.Enum):
    """Why a ticket was not admitted."""

    QUEUE_FULL = "queue_full"
    OVERLOAD = "overload"
    DEADLINE_PASSED = "deadline_passed"
    UNREACHABLE = "unreachable"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A ticket was not admitted.

    Attributes:
        why: the reason.
        retry_ns: nanoseconds after which the same request would pass if nothing else came; None if it is not for load.
        predicted_ns: nanoseconds that it would have taken from its arrival, None if that was not the reason.
    """

    why: Refusal
    retry_ns: int | None = None
    predicted_ns: int | None = None


class Ticket(NamedTuple):
    """A request as the batcher sees it: sizes and times, never a tensor."""

    id: int
    """Unique among all tickets of a batcher."""
    lengths: Sequence[int]
    """Steps of each row, one number per row, all >= 1."""
    enqueued_ns: int
    """When it arrived."""
    deadline_ns: int = NEVER_NS
    """When its answer is worth nothing any more."""
    handicap_ns: int = 0
    """How much later than `enqueued_ns` it counts as having arrived; negative puts it forward."""

    @property
    def rows(self) -> int:
        """Sequences of the request."""
        return len(self.lengths)


Order = tuple[int, int, int]
"""A row's place in the queue: by when it should start, its ticket, its index there; the least goes first."""


class Row:
    """One sequence of a live ticket, and how far it has come; mutable, the batcher's own.

    Attributes:
        ticket: it belongs to.
        index: of it in the ticket.
        length: its steps.
        done: steps run so far.
        planned: steps run when the present call ends; `done` while it waits.
        order: by when it should start at the latest, then by arrival, then as the client sent them; least goes first.
    """

    __slots__ = ("done", "index", "length", "order", "planned", "ticket")

    def __init__(self, ticket: Ticket, index: int, key_ns: int) -> None:
        self.ticket = ticket
        self.index = index
        self.length = ticket.lengths[index]
        self.done = 0
        self.planned = 0
        self.order: Order = (key_ns, ticket.id, index)

    @property
    def remaining(self) -> int:
        """Steps still to run."""
        return self.length - self.done


class Span(NamedTuple):
    """Steps `start` up to `stop` (exclusive) of one row of a ticket."""

    ticket: int
    row: int
    start: int
    stop: int

    @property
    def steps(self) -> int:
        """Real steps to run."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Spans that run in one engine call, and what that is predicted to cost."""

    spans: tuple[Span, ...]
    steps: int
    """Of the longest span: what every row is padded to."""
    real_steps: int
    """Of all spans in sum: those that are not padding."""
    predicted_seconds: float
    company: int
    """Rows that were live when it began, its own with them."""
    most_rows: int
    """That the policy allowed it."""

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the caller must do now: fail `expired`, then run `batch` if there is one and report its end."""

    expired: tuple[Ticket, ...] = ()
    batch: Batch | None = None
