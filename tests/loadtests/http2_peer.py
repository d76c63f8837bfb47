"""A peer that speaks HTTP/2 frame by frame, as a test wants it to."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STATUS_200 = b"\x88"
STATUS_OK = b"\x00\x0bgrpc-status\x010"
"""HPACK: an entry of the static table, and a literal."""


def frame(kind: int, flags: int = 0, stream: int = 0, content: bytes = b"") -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def framed(answer: bytes) -> bytes:
    """A message as gRPC sends it."""
    return bytes(1) + len(answer).to_bytes(4, "big") + answer


class Peer:
    """The server's end of a connection, frame by frame; every request is `b"request"`."""

    def __init__(self, connection: socket.socket, settings: bytes = b"") -> None:
        self.send = connection.sendall
        self._receive = connection.recv
        self._received = b""
        self.send(frame(SETTINGS, content=settings) + frame(SETTINGS, ACK))

    def wait_for_requests(self, count: int) -> int:
        """Read until so many requests have come in all; says how many did."""
        while self._received.count(b"request") < count:
            self._received += self._receive(65536)
        return self._received.count(b"request")

    def read_body(self, size: int) -> bytes:
        """Read DATA frames until they hold so many bytes or the client hangs up."""
        body, received, at = bytearray(), bytearray(self._received), len(PREFACE)
        while len(body) < size:
            end = at + 9 + int.from_bytes(received[at : at + 3], "big")
            if len(received) >= max(end, at + 9):
                body += received[at + 9 : end] if received[at + 3] == DATA else b""
                at = end
            elif more := self._receive(1 << 20):
                received += more
            else:
                break
        return bytes(body)

    def wait_for_the_end(self) -> None:
        """Read until the client hangs up."""
        while self._receive(65536):
            pass


@contextmanager
def peer(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that accepts one connection, does as told, and closes it."""

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        talking = thread.submit(accept)
        yield listener.getsockname()[1]
        talking.result()
