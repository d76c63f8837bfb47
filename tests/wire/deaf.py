"""A client that asks and takes no answer: HTTP/2 lets it open a window of no bytes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from tests.loadtests.http2_peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    framed,
)
from tests.wire.desk import SECONDS

NO_WINDOW = (4).to_bytes(2, "big") + (0).to_bytes(4, "big")
"""SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2): the server may not send a byte of any answer."""
FRAME_BYTES = 16384
PSEUDO = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "test",
    "content-type": "application/grpc",
    "te": "trailers",
}


def headers(path: str) -> bytes:
    """Encode what a call begins with as HPACK literals without compression (RFC 7541, section 6.2.2)."""
    pairs = {**PSEUDO, ":path": path}
    fields = [(name.encode(), value.encode()) for name, value in sorted(pairs.items())]  # those with a colon go first
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


class Deaf:
    """A connection that calls one method with one message, and takes no answer before it is told to."""

    def __init__(self, port: int, path: str, message: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        body = framed(message)
        self._socket.sendall(
            PREFACE
            + frame(SETTINGS, content=NO_WINDOW)
            + frame(SETTINGS, ACK)
            + frame(HEADERS, END_HEADERS, 1, headers(path))
        )
        parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)]
        for part in parts[:-1]:
            self._socket.sendall(frame(DATA, 0, 1, part))
        self._socket.sendall(frame(DATA, END_STREAM, 1, parts[-1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def listen(self) -> None:
        """Let answers through from now on."""
        self._socket.sendall(frame(WINDOW_UPDATE, 0, 1, (2**20).to_bytes(4, "big")))

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Read (kind, flags, content) of each frame that comes."""
        received = b""
        while True:
            while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3], "big")):
                yield received[3], received[4], received[9:end]
                received = received[end:]
            received += self._socket.recv(65536)

    def wait_for_the_end(self) -> None:
        """Read frames until the call has been ended."""
        for kind, flags, _ in self.frames():
            if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                return


def eventually(condition: Callable[[], bool]) -> None:
    """Return when it is true; for what nobody tells of."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        threading.Event().wait(0.01)
