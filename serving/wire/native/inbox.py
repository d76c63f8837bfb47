"""One model version's requests, kept by the library: what its runner asks for once per tick."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.clock import NANOSECONDS_PER_SECOND
from serving.errors import EngineError, ServingError
from serving.inbox import Arrival
from serving.tensors import Array, KeptRows
from serving.wire.native.calls import ending_of
from serving.wire.native.library import Arrivals, Int64s, taken
from serving.wire.status import STATUS_CODES, log_of_fault, message_of, metadata_of

AT_A_TIME = 256
"""Requests that one `take` returns: more than a batch has use for; the next one takes the rest."""


class NativeInbox:
    """The library's inbox (`serving.inbox.Arrivals`)."""

    def __init__(self, library: Any, front: int, handle: int, *, max_rows: int) -> None:  # noqa: ANN401
        """Take requests from an inbox of the library's, which is closed with this.

        Args:
            library: of functions.
            front: the library's handle of the server.
            handle: of the inbox.
            max_rows: of a request.
        """
        self._library = library
        self._front = front
        self.handle = handle
        lengths = max(AT_A_TIME, max_rows)
        sizes = {"rows": AT_A_TIME, "lengths": lengths, "queued_ns": AT_A_TIME, "deadline_ns": AT_A_TIME}
        sizes |= {"priority": AT_A_TIME, "cancelled": AT_A_TIME}
        self._arrays = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
        self._came = Arrivals(capacity=AT_A_TIME, lengths_capacity=lengths, cancelled_capacity=AT_A_TIME)
        for name, array in self._arrays.items():
            setattr(self._came, name, array.ctypes.data_as(Int64s))
        self._where = ctypes.byref(self._came)

    def __del__(self) -> None:
        self._library.inbox_close(self.handle)

    def take(self, first_id: int) -> tuple[list[Arrival], list[int]]:
        """Return what has come, and what was cancelled; one thread at a time."""
        came = self._came
        self._library.take(self.handle, first_id, self._where)
        count, cancelled = came.count, came.cancelled_count
        gone = self._arrays["cancelled"][:cancelled].tolist() if cancelled else []
        if not count:
            return [], gone
        rows, *times = (
            self._arrays[name][:count].tolist() for name in ("rows", "queued_ns", "deadline_ns", "priority")
        )
        lengths = self._arrays["lengths"][: sum(rows)].tolist()
        if len(lengths) == count:
            return [Arrival([length], *each) for length, *each in zip(lengths, *times, strict=True)], gone
        ends = np.cumsum(rows).tolist()
        of_each = [lengths[end - size : end] for end, size in zip(ends, rows, strict=True)]
        return [Arrival(*each) for each in zip(of_each, *times, strict=True)], gone

    def wait_idle(self) -> None:
        """Wait for something to run, or `rouse`; for the threads that run it."""
        self._library.wait_idle(self.handle)

    def rouse(self) -> None:
        """End one `wait_idle`, the present one or the next."""
        self._library.rouse(self.handle)

    def wait_overdue(self, *, seconds: float) -> None:
        """Wait until something has not been taken for so long while nobody was idle, or `wake`."""
        self._library.wait_overdue(self.handle, int(seconds * NANOSECONDS_PER_SECOND))

    def wake(self) -> None:
        """End a wait, the present one or the next."""
        self._library.wake(self.handle)

    def close(self) -> None:
        """Let nothing more come; what has can still be taken."""
        self._library.inbox_shut(self.handle)

    def answer(self, ids: Sequence[int]) -> None:
        """Send the answers of requests all of whose rows have been scattered; those that have left are passed over."""
        numbers = np.array(ids, np.int64)
        self._library.answer(self._front, self.handle, numbers.ctypes.data, len(numbers))

    def fail(self, id: int, error: ServingError) -> None:  # noqa: A002  the ticket's
        """End a request with an error; nothing if it has left."""
        if isinstance(error, EngineError):
            log_of_fault(error, taken(self._library.request_id(self.handle, id)).decode(), None)
        ending = _ending(error)
        self._library.fail(self._front, self.handle, id, error.reason.encode(), ending, len(ending))

    def hold_off(self, refused: Arrival, done_ns: int, error: ServingError) -> None:
        """Have what asks for no less than a refused request refused as well; see `serving.inbox.Arrivals`."""
        steps, deadline_ns, ending = max(refused.lengths), refused.deadline_ns, _ending(error)
        reason = error.reason.encode()
        self._library.hold_off(self._front, self.handle, steps, deadline_ns, done_ns, reason, ending, len(ending))

    def resume(self) -> None:
        """Have nothing held off any more."""
        self._library.resume(self.handle)

    def refer(self, id: int) -> None:  # noqa: A002
        """Have a request, of which no row has run, come again as one that Python serves."""
        self._library.refer(self.handle, id)

    def gather(self, rows: KeptRows, inputs: Sequence[Array], states: Array | None) -> None:
        """Copy spans into a batch; see `serving.tensors.Keeper`."""
        self._copy(self._library.gather, rows, inputs, states)

    def scatter(self, rows: KeptRows, outputs: Sequence[Array], states: Array | None) -> None:
        """Copy what was computed into the answers; see `serving.tensors.Keeper`."""
        self._copy(self._library.scatter, rows, outputs, states)

    def _copy(self, function: Any, rows: KeptRows, tensors: Sequence[Array], states: Array | None) -> None:  # noqa: ANN401
        addresses = (ctypes.c_void_p * len(tensors))(*[tensor.ctypes.data for tensor in tensors])
        state = None if states is None else states.ctypes.data
        spans, positions = rows.spans.ctypes.data, rows.positions.ctypes.data
        if not function(self.handle, spans, positions, rows.count, rows.steps, addresses, state):
            raise MemoryError(f"no memory to copy {rows.count} rows")


def _ending(error: ServingError) -> bytes:
    return ending_of(STATUS_CODES[type(error)], message_of(error), metadata_of(error)).SerializeToString()
