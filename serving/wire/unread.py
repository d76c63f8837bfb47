"""Answers that have been handed to gRPC core and that clients have not taken yet.

A client that never reads costs nothing but memory: its call is answered, its slot is free, and the answer lies in core
for as long as the connection lives. So their bytes are counted, and when they are too many, the call goes that has not
moved for the longest time. Clients that read are through within moments and never the oldest.
"""

import threading
from typing import Protocol

CALL_BYTES = 16 * 1024
"""What core holds for a call beside its answer, roughly: so that tiny answers count as well."""


class Droppable(Protocol):
    """A call."""

    def drop(self) -> None:
        """End it without sending the rest."""


class Unread:
    """Counts bytes by call, in the order in which calls last moved."""

    def __init__(self, max_bytes: int) -> None:
        """Let so many bytes wait."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._calls: dict[Droppable, int] = {}
        self._lock = threading.Lock()

    def add(self, call: Droppable, count: int) -> None:
        """Count an answer of a call; drops others, oldest first, if that is too much."""
        count += CALL_BYTES
        dropped: list[Droppable] = []
        with self._lock:
            self._calls[call] = self._calls.get(call, 0) + count
            self._bytes += count
            if self._bytes > self._max_bytes:
                dropped = self._make_room(call)
        for other in dropped:
            other.drop()

    def sent(self, call: Droppable, count: int) -> None:
        """Take an answer off that has gone out, or never will."""
        count += CALL_BYTES
        with self._lock:
            held = self._calls.pop(call, 0)  # and so to the end: it has moved
            if held > count:
                self._calls[call] = held - count
            self._bytes -= min(held, count)

    @property
    def bytes(self) -> int:
        """How many wait, and what holds them."""
        return self._bytes

    def _make_room(self, newest: Droppable) -> list[Droppable]:
        dropped: list[Droppable] = []
        for call, count in self._calls.items():
            if self._bytes <= self._max_bytes:
                break
            if call is not newest:
                self._bytes -= count
                dropped.append(call)
        for call in dropped:
            del self._calls[call]
        return dropped
