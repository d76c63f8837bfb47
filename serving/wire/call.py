"""One gRPC call as the rest of the wire sees it, whichever front it came through."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from serving.wire import request_ids

if TYPE_CHECKING:
    from serving.wire.access import Client

Metadata = tuple[tuple[str, str], ...]
Received = tuple[tuple[str, str | bytes], ...]

_NAMING = threading.Lock()
"""Two requests of a stream may ask for its id at a time; one lock for all calls, because few are ever asked."""


class Call(ABC):
    """One call, until its status has been sent. Every method may be called from any thread and none waits.

    Each call must be ended by exactly one `finish`, whatever became of the client; or by `refuse` before anything else.
    """

    def __init__(self, *, metadata: Received, deadline_ns: int | None, begun_ns: int) -> None:
        """Take what the call brought beside its messages."""
        self.deadline_ns = deadline_ns
        """On the server's clock, which no change of the time of day moves; None without a deadline."""
        self.begun_ns = begun_ns
        """When the front came to it, on the same clock."""
        self.metadata = metadata
        """What the client sent beside its messages: (key, value) pairs, keys in lower case, values of `-bin` bytes."""
        self.client: Client | None = None
        """Who calls; None where nobody is asked, or not yet."""
        self.chosen = False
        """Whether the front has drawn its request for a trace."""
        self._request_id = request_ids.sent(metadata)

    @property
    @abstractmethod
    def peer(self) -> str:
        """The address at the other end of the connection, as `ipv4:127.0.0.1:1234`."""

    @property
    def caller(self) -> str:
        """Whose requests count together: the client's name, or else the address at the other end without its port."""
        return self.peer.rpartition(":")[0] if self.client is None else self.client.name

    @property
    def request_id(self) -> str:
        """The caller's id of the call, or one that is made now; from now on the status tells it."""
        with _NAMING:
            if self._request_id is None:
                self._request_id = request_ids.made()
        return self._request_id

    @abstractmethod
    def is_active(self) -> bool:
        """Return whether the client may still be there."""

    @abstractmethod
    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called if the call ends otherwise than by `finish`: cancelled, late, or the connection lost."""

    @abstractmethod
    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the next message, or with None when there will be no more."""

    @abstractmethod
    def receive_only(self, then: Callable[[bytes | None], None]) -> None:
        """Have `then` called with the one message, or with None if the client sent none."""

    @abstractmethod
    def will_send(self, content: bytes) -> None:
        """Say that a message waits to be sent, so that it counts among what clients have not read."""

    @abstractmethod
    def send(self, content: bytes, then: Callable[[], None]) -> None:
        """Send a message of a stream, of which `will_send` told; `then` is called when the next one may follow."""

    @abstractmethod
    def finish(
        self, code: grpc.StatusCode, details: str = "", *, metadata: Metadata = (), content: bytes | None = None
    ) -> None:
        """Send the status, after a last message if there is one."""

    @abstractmethod
    def refuse(self, code: grpc.StatusCode, details: str, *, metadata: Metadata) -> None:
        """Send a status in the place of everything else, for the least that a call can cost."""

    def _with_id(self, metadata: Metadata) -> Metadata:
        """Return what the status tells: the request's id too, if it has one."""
        return metadata if self._request_id is None else (*metadata, (request_ids.REQUEST_ID_KEY, self._request_id))
