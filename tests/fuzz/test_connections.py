"""Hundreds of connections that bring garbage, or HTTP/2 that means harm: the server lets go of each, and goes on."""

import re
import socket
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import grpc
import pytest

from tests.fuzz.garbage import GARBAGE
from tests.fuzz.kinds import INPUTS, SEED
from tests.fuzz.served import SECONDS, Served
from tests.wire.deaf import eventually

Code = grpc.StatusCode
CONNECTIONS = max(10, INPUTS // 250 // len(GARBAGE))
"""Of each kind."""
HELD = 3
"""Of each kind, which stay open until all have been seen to do no harm."""
OURS = {Code.INTERNAL.value[0], Code.UNKNOWN.value[0]}
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closed at once, by a reset."""


def connected(served: Served, content: bytes) -> socket.socket:
    """Send as much as the server takes."""
    host, port = served.server.address.split(":")
    connection = socket.create_connection((host, int(port)), SECONDS)
    with suppress(ConnectionError):
        connection.sendall(content)
    return connection


def files(served: Served) -> int:
    return len(list(Path(f"/proc/{served.server.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_connection_of_garbage_is_let_go_and_hurts_nobody(served: Served, kind: str) -> None:
    before = files(served)
    received = b""
    for number in range(CONNECTIONS):
        rng = Random(f"{SEED}/{kind}/{number}")  # noqa: S311  repeatable
        with connected(served, GARBAGE[kind](rng)) as connection:
            if rng.random() < 0.3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                continue
            with suppress(OSError):  # it may have closed already
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):  # until the server closes it
                    received += part

    served.check_unharmed()
    eventually(lambda: files(served) <= before)
    statuses = {int(number) for number in re.findall(rb"grpc-status[\x01\x02](\d+)", received)}
    if kind == "messages":  # what is wrong with HTTP/2 itself, gRPC core answers as it likes, with INTERNAL too
        assert statuses
        assert statuses.isdisjoint(OURS)


def test_connections_that_stay_open_hurt_nobody(served: Served) -> None:
    with ExitStack() as held:
        for kind, made in GARBAGE.items():
            for number in range(HELD):
                rng = Random(f"{SEED}/{kind}/held/{number}")  # noqa: S311  repeatable
                held.enter_context(connected(served, made(rng)))
        served.check_unharmed()
