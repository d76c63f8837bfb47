"""The seam between the wire and a runner: where requests go in, and where their answers come out."""

from typing import Protocol

from serving.errors import ServingError
from serving.tensors import Arrays, Rows


class Reply(Protocol):
    """Where the one answer or the one error of a request goes; called from a thread of the runner, must not block."""

    def answer(self, outputs: Arrays) -> None:
        """Take the request's own rows of every output, and of the next state if the model has one."""

    def fail(self, error: ServingError) -> None:
        """Take the request's error."""


class Inbox(Protocol):
    """What a front sees of a runner."""

    def put(self, rows: Rows, reply: Reply, *, deadline_ns: int | None = None, priority: int | None = None) -> int:
        """Queue a checked request and return its ticket's id; `reply` is called exactly once, unless this raises."""

    def cancel(self, ticket_id: int) -> None:
        """Let a request go that has not been answered; its reply then fails with `Cancelled`."""
