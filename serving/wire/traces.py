"""What the wire tells of a request that is traced, as it happens; all times are on the server's clock."""

from collections.abc import Iterable
from typing import Protocol

from serving.inbox import Trace


class RequestTrace(Trace, Protocol):
    """One request that was chosen to be traced; whoever began it ends it, on whatever thread."""

    trace_id: str
    """32 hexadecimal digits, for the log and for exemplars."""

    def describe(self, *, model: str, version: str, rows: int, steps: int, request_id: str) -> None:
        """Take what the request was; rows and steps (real ones, of all rows together) are 0 if it failed its checks."""

    def end(self, status: str, outcome: str) -> None:
        """Take the name of the gRPC status and the outcome (ok, or the reason of the error): the answer is written."""


class Tracer(Protocol):
    """Chooses the requests to trace."""

    def begin(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]], *, began_ns: int, chosen: bool = False
    ) -> RequestTrace | None:
        """Begin the trace of a request, or return None if it is not sampled.

        Args:
            method: full name of the gRPC method, without the leading slash.
            metadata: of the call, which may name a trace to go on with.
            began_ns: when the request came.
            chosen: whether it has been drawn for a trace already.
        """
