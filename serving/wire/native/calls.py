"""Calls that the library hands to Python: the same interface as those that come from grpcio."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from serving._proto import seam_pb2 as seam
from serving.wire.call import Call, Metadata
from serving.wire.native.library import taken

REQUESTS, OTHERS = 0, 1
"""Which calls: requests for inference that the library leaves to Python, and all other calls."""
CLOSED, NEW, MESSAGE, END, SENT, GONE = range(6)
"""Kinds of events."""
BINARY = "-bin"
"""How keys end whose values are bytes."""


class NativeCall(Call):
    """A call of the library's."""

    def __init__(self, bridge: "Bridge", number: int, opening: seam.Opening) -> None:
        """Take what the library tells of it."""
        metadata = tuple(
            (pair.key, pair.value if pair.key.endswith(BINARY) else pair.value.decode("ascii", "replace"))
            for pair in opening.metadata
        )
        deadline_ns = opening.deadline_ns if opening.HasField("deadline_ns") else None
        super().__init__(metadata=metadata, deadline_ns=deadline_ns, begun_ns=opening.begun_ns)
        self.path = opening.path
        self.unread = opening.unread
        """Whether there is nothing to be read: its caller was not known to the library."""
        self.chosen = opening.chosen
        self._peer = opening.peer
        self._bridge = bridge
        self._number = number
        self.gone: Callable[[], None] | None = None
        self.received: Callable[[bytes | None], None] | None = None
        self.sent: Callable[[], None] | None = None

    @property
    def peer(self) -> str:
        """The address at the other end of the connection, as `ipv4:127.0.0.1:1234`."""
        return self._peer

    def is_active(self) -> bool:
        """Return whether the client may still be there."""
        return bool(self._bridge.ask("active", self._number))

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called if the call ends otherwise than by `finish`: cancelled, late, or the connection lost."""
        self.gone = gone

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the next message, or with None when there will be no more."""
        self.received = then
        self._bridge.ask("receive", self._number)

    receive_only = receive

    def will_send(self, content: bytes) -> None:
        """Do nothing: the library counts what it is given."""

    def send(self, content: bytes, then: Callable[[], None]) -> None:
        """Send a message of a stream; `then` is called when the next one may follow."""
        self.sent = then
        self._bridge.ask("send", self._number, content, len(content))

    def finish(
        self, code: grpc.StatusCode, details: str = "", *, metadata: Metadata = (), content: bytes | None = None
    ) -> None:
        """Send the status, after a last message if there is one."""
        ending = ending_of(code, details, self._with_id(metadata)).SerializeToString()
        self._bridge.ask("finish", self._number, ending, len(ending), content, len(content or b""))
        self._bridge.release(self._number)
        self.gone = self.received = self.sent = None  # they lead back here

    def refuse(self, code: grpc.StatusCode, details: str, *, metadata: Metadata) -> None:
        """Send a status in the place of everything else."""
        self.finish(code, details, metadata=metadata)


def ending_of(code: grpc.StatusCode, details: str, metadata: Metadata) -> seam.Ending:
    """Return how a call ends, for the library."""
    pairs = [seam.Opening.Pair(key=key, value=value.encode()) for key, value in metadata]
    return seam.Ending(code=code.value[0], message=details.encode(), metadata=pairs)


class _Happened(NamedTuple):
    kind: int
    number: int
    content: bytes


class Bridge:
    """A thread that takes what happens on the calls of one kind, and runs what was asked for."""

    def __init__(self, library: Any, front: int, which: int, begin: Callable[[NativeCall], None], *, name: str) -> None:  # noqa: ANN401
        """Prepare.

        Args:
            library: of functions.
            front: the library's handle.
            which: `REQUESTS` or `OTHERS`.
            begin: takes a new call; runs on the one thread, so it must not wait.
            name: of the thread.
        """
        self._library = library
        self._front = front
        self._which = which
        self._begin = begin
        self._calls: dict[int, NativeCall] = {}
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Take calls."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the library has closed, and everything that had happened has been taken."""
        if self._thread.ident is not None:
            self._thread.join()

    def ask(self, what: str, number: int, *arguments: object) -> object:
        """Have the library do something on a call; nothing if it has been released."""
        return getattr(self._library, f"call_{what}")(self._front, self._which, number, *arguments)

    def release(self, number: int) -> None:
        """Let go of a call that has been finished."""
        self._calls.pop(number, None)
        self._library.call_release(self._front, self._which, number)

    def _run(self) -> None:
        while (happened := self._next()).kind != CLOSED:
            if happened.kind == NEW:
                self._open(happened.number)
                continue
            call = self._calls.get(happened.number)
            if call is not None:
                _tell(call, happened)

    def _next(self) -> _Happened:
        event = self._library.next(self._front, self._which)
        return _Happened(event.kind, event.call, taken(event.content))

    def _open(self, number: int) -> None:
        opening = seam.Opening.FromString(taken(self._library.call_describe(self._front, self._which, number)))
        call = self._calls[number] = NativeCall(self, number, opening)
        self._begin(call)


def _tell(call: NativeCall, happened: _Happened) -> None:
    """Call what was asked for; once, for what happens once."""
    if happened.kind == GONE:
        gone, call.gone = call.gone, None
        if gone is not None:
            gone()
    elif happened.kind == SENT:
        sent, call.sent = call.sent, None
        if sent is not None:
            sent()
    else:
        received, call.received = call.received, None
        if received is not None:
            received(happened.content if happened.kind == MESSAGE else None)
