"""A simulated request, and what may become of it."""

import enum

from serving.batching import NEVER_NS, Refusal


class Outcome(enum.IntEnum):
    """What became of a request, or of one attempt at it."""

    OK = 0
    DEADLINE = 1
    """Its time was over before the answer came, or could not be enough even on an idle replica."""
    OVERLOAD = 2
    """The batcher refused it: it could not be in time behind the accepted work."""
    QUEUE_FULL = 3
    """The queue, or the slots for requests, had no room."""
    BEHIND = 4
    """The front was behind and refused it unread."""
    UNAVAILABLE = 5
    """The replica was killed, drained, or not there."""


REFUSED = frozenset({Outcome.OVERLOAD, Outcome.QUEUE_FULL, Outcome.BEHIND})
"""For load, with RESOURCE_EXHAUSTED; nothing was computed."""

OUTCOME_OF = {
    Refusal.QUEUE_FULL: Outcome.QUEUE_FULL,
    Refusal.OVERLOAD: Outcome.OVERLOAD,
    Refusal.DEADLINE_PASSED: Outcome.DEADLINE,
    Refusal.UNREACHABLE: Outcome.DEADLINE,
    Refusal.DRAINING: Outcome.UNAVAILABLE,
}


class Request:
    """One sequence that a client wants an answer for; mutable, and the same for all attempts at it.

    Attributes:
        number: of the request in the run.
        steps: of its sequence.
        sent_ns: when the client first sent it.
        deadline_ns: when its answer is worth nothing any more.
        proxy: that balances it.
        attempts: times that it was sent to a replica.
        begun_ns: when the replica's front came to it (of the present attempt).
        ended_ns: when something had become of it, -1 before.
        outcome: what.
    """

    __slots__ = ("attempts", "begun_ns", "deadline_ns", "ended_ns", "number", "outcome", "proxy", "sent_ns", "steps")

    def __init__(self, number: int, steps: int, sent_ns: int, patience_ns: int = NEVER_NS, proxy: int = 0) -> None:
        self.number = number
        self.steps = steps
        self.sent_ns = sent_ns
        self.deadline_ns = min(NEVER_NS, sent_ns + patience_ns)
        self.proxy = proxy
        self.attempts = 0
        self.begun_ns = 0
        self.ended_ns = -1
        self.outcome = Outcome.OK
