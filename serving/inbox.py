"""The seam between the wire and a runner: where requests go in, and where their answers come out.

There are two ways in. A front hands in each request with a reply to be made (`Inbox.put`); or it keeps requests with
their tensors and answers, and tells a runner their sizes and times when that asks for them, once per tick (`Arrivals`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from serving.errors import ServingError
from serving.tensors import Arrays, Keeper, Rows


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


class Arrival(NamedTuple):
    """A checked request as a runner sees it whose tensors the front keeps."""

    lengths: list[int]
    """Steps of each row."""
    queued_ns: int
    deadline_ns: int
    """On the server's clock; `NEVER_NS` without one."""
    priority: int
    """1 (first) to 9; 0 for the model's default."""


class Arrivals(Keeper, Protocol):
    """Requests that a front keeps for a runner, by numbers that the runner gives them. Safe to use from any thread."""

    def take(self, first_id: int) -> tuple[list[Arrival], list[int]]:
        """Return what has come, numbered from `first_id` on, and the numbers of requests that their clients cancelled.

        There may be more: it returns what a tick has use for.
        """

    def hold_off(self, refused: Arrival, done_ns: int, error: ServingError) -> None:
        """Refuse what comes from now on and asks for no less than a request that was refused; it replaces another one.

        That is a request of the model's default priority and of so many steps at least, with a deadline that is not
        before that one's, and before `done_ns`. It holds until `resume`.

        Args:
            refused: of one row, and the model's default priority.
            done_ns: when it would have been done.
            error: to be told, with the milliseconds until it would pass in the place of `{ms}`.
        """

    def resume(self) -> None:
        """Hold off nothing any more: there is less work, or it is known better."""

    def wait_idle(self) -> None:
        """Wait for something to run, or `rouse`; for the threads that run it."""

    def rouse(self) -> None:
        """End one `wait_idle`, the present one or the next."""

    def wait_overdue(self, *, seconds: float) -> None:
        """Wait until something has not been taken for so long while nobody was idle, or `wake`."""

    def wake(self) -> None:
        """End a wait, the present one or the next."""

    def close(self) -> None:
        """Let nothing more come; what has can still be taken."""

    def answer(self, ids: Sequence[int]) -> None:
        """Send the answers of requests all of whose rows have been scattered; those that have left are passed over."""

    def fail(self, id: int, error: ServingError) -> None:  # noqa: A002  the ticket's
        """End a request with an error; nothing if it has left."""

    def refer(self, id: int) -> None:  # noqa: A002
        """Have a request, of which no row has run, come again through `put` of whatever version serves now."""


class Inbox(Protocol):
    """What a front sees of a runner."""

    def attach(self, arrivals: Arrivals) -> None:
        """Take requests from there too, until the runner has drained; called once."""

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
