"""A name server on loopback, as the cluster's is to Envoy: one name, whose addresses come and go.

Source: RFC 1035, sections 4.1.1 to 4.1.4.
"""

import socket
import struct
import threading
from types import TracebackType
from typing import Self

ANSWER = 0x8580
"""A response, authoritative, without error; recursion is available, which c-ares asks for."""
A, INTERNET = 1, 1
NAME_OF_QUESTION = 0xC00C
TTL_SECONDS = 30
QUESTION_AT = 12


class NameServer:
    """Context manager: answers every question for an IPv4 address, whatever the name, and other questions with nothing.

    Attributes:
        addresses: to answer with; may be replaced at any time.
        address: `host:port` to ask.
    """

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", QUESTION_AT) + 5
        (kind,) = struct.unpack_from(">H", query, end - 4)
        addresses = self.addresses if kind == A else ()
        head = query[:2] + struct.pack(">HHHHH", ANSWER, 1, len(addresses), 0, 0)
        records = [
            struct.pack(">HHHIH4s", NAME_OF_QUESTION, A, INTERNET, TTL_SECONDS, 4, socket.inet_aton(address))
            for address in addresses
        ]
        return head + query[QUESTION_AT:end] + b"".join(records)
