"""The seam between the wire and a runner: where requests go in, and where their answers come out."""

from typing import NamedTuple, Protocol

from serving.errors import ServingError
from serving.tensors import Arrays, Rows


class Reply(Protocol):
    """Where the one answer or the one error of a request goes; called from a thread of the runner, must not block."""

    def answer(self, outputs: Arrays) -> None:
        """Take the request's own rows of every output, and of the next state if the model has one."""

    def fail(self, error: ServingError) -> None:
        """Take the request's error."""


class EngineCall(NamedTuple):
    """One call of the engine, as the traces of its requests tell it."""

    started_ns: int
    ended_ns: int
    rows: int
    """Of the batch."""
    steps: int
    """What every row is padded to."""
    padding_efficiency: float
    """Real steps over padded ones."""
    failed: bool
    """Whether it raised; the rows are then run again one by one."""


class Trace(Protocol):
    """What a runner tells of a request that is traced; called from its threads, must not block."""

    def queued(self, now_ns: int) -> None:
        """The request was accepted."""

    def started(self, now_ns: int) -> None:
        """The request's first rows go to the engine."""

    def engine_ran(self, call: EngineCall, *, rows: int) -> None:
        """An engine call is over; so many of its rows are this request's."""


class Inbox(Protocol):
    """What a front sees of a runner."""

    def put(
        self,
        rows: Rows,
        reply: Reply,
        *,
        deadline_ns: int | None = None,
        priority: int | None = None,
        trace: Trace | None = None,
    ) -> int:
        """Queue a checked request and return its ticket's id; `reply` is called exactly once, unless this raises."""

    def cancel(self, ticket_id: int) -> None:
        """Let a request go that has not been answered; its reply then fails with `Cancelled`."""
