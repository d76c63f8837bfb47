"""Clients that do not read: what they are owed is bounded, and others do not notice."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.manifest import Manifest, read_manifest
from serving.wire.unread import CALL_BYTES, Unread
from tests.loadtests.http2_peer import END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, framed
from tests.support.artefacts import FEATURES, write_lstm
from tests.wire.desk import SECONDS, UNREAD_BYTES, Desk

STEPS = 4000
ANSWER_BYTES = STEPS * 4 * 4
"""Of the output `steps`; the rest is little."""
CALLS = 40
NO_WINDOW = (4).to_bytes(2, "big") + (0).to_bytes(4, "big")
"""SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2): the server may not send a byte of any answer."""
PSEUDO = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "test",
    "content-type": "application/grpc",
    "te": "trailers",
}


class Call:
    """A call as the count knows it."""

    def __init__(self) -> None:
        self.dropped = 0

    def drop(self) -> None:
        self.dropped += 1


def request() -> oip.ModelInferRequest:
    x = np.ones((1, STEPS, FEATURES), "<f4")
    made = oip.ModelInferRequest(model_name="lstm", raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return made


def headers(method: str) -> bytes:
    """Encode what a call begins with as HPACK literals without compression (RFC 7541, section 6.2.2)."""
    pairs = {**PSEUDO, ":path": f"/inference.GRPCInferenceService/{method}"}
    fields = [(name.encode(), value.encode()) for name, value in sorted(pairs.items())]  # those with a colon go first
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


class Deaf:
    """A connection that asks once, on either method, and takes no answer."""

    def __init__(self, port: int, method: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        body = framed(request().SerializeToString())
        self._socket.sendall(
            PREFACE + frame(SETTINGS, content=NO_WINDOW) + frame(HEADERS, END_HEADERS, 1, headers(method))
        )
        parts = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        for part in parts[:-1]:
            self._socket.sendall(frame(0, 0, 1, part))
        self._socket.sendall(frame(0, END_STREAM, 1, parts[-1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait_for_the_end(self) -> None:
        """Read frames until the call has been ended."""
        received = b""
        while True:
            while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3], "big")):
                kind, flags, received = received[3], received[4], received[end:]
                if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                    return
            received += self._socket.recv(65536)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))


@pytest.fixture
def desk(manifest: Manifest) -> Iterator[Desk]:
    with Desk(manifest) as serving:
        yield serving


def answer(desk: Desk, count: int = 1) -> None:
    """Answer what comes, and return when the answers have been handed in."""
    before = desk.ended["ok"]
    desk.wait_for_waiting(count)
    desk.house.run_all()
    desk.wait_for(lambda: desk.ended["ok"] == before + count)


def test_answers_that_nobody_reads_are_bounded_and_the_oldest_go(desk: Desk) -> None:
    with ExitStack() as connections:
        deaf = []
        for _ in range(CALLS):
            deaf.append(connections.enter_context(Deaf(desk.port, "ModelInfer")))
            answer(desk)
        for connection in deaf[: CALLS - UNREAD_BYTES // ANSWER_BYTES]:
            connection.wait_for_the_end()

        assert UNREAD_BYTES - ANSWER_BYTES - 2 * CALL_BYTES < desk.unread.bytes <= UNREAD_BYTES
        desk.slots.wait_empty(seconds=SECONDS)
        reading = desk.stub.ModelInfer.future(request(), timeout=SECONDS)
        answer(desk)
        assert len(reading.result().raw_output_contents[0]) == ANSWER_BYTES
    eventually(lambda: desk.unread.bytes == 0)


def test_a_stream_that_nobody_reads_goes_when_it_is_the_oldest(desk: Desk) -> None:
    with ExitStack() as connections:
        stream = connections.enter_context(Deaf(desk.port, "ModelStreamInfer"))
        answer(desk)
        eventually(lambda: desk.unread.bytes > ANSWER_BYTES)
        for _ in range(UNREAD_BYTES // ANSWER_BYTES):
            connections.enter_context(Deaf(desk.port, "ModelInfer"))
            answer(desk)

        stream.wait_for_the_end()
        desk.stream_slots.wait_empty(seconds=SECONDS)
    eventually(lambda: desk.unread.bytes == 0)


@given(
    limit=st.integers(1, 20 * CALL_BYTES),
    moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3 * CALL_BYTES), st.booleans()), max_size=60),
)
def test_the_count_is_what_was_added_less_what_was_sent_and_dropped(
    limit: int, moves: list[tuple[int, int, bool]]
) -> None:
    """Against a plain list of what each call owes, in the order in which calls moved."""
    unread, calls = Unread(limit), [Call() for _ in range(6)]
    owed: dict[int, list[int]] = {}
    for number, size, sends in moves:
        if sends and owed.get(number):
            waiting = owed.pop(number)
            unread.sent(calls[number], waiting.pop(0))
            if waiting:
                owed[number] = waiting
        else:
            owed.setdefault(number, []).append(size)
            before = [call.dropped for call in calls]
            unread.add(calls[number], size)
            for other in list(owed):
                if total(owed) > limit and other != number:
                    del owed[other]
                    before[other] += 1
            assert [call.dropped for call in calls] == before
        assert unread.bytes == total(owed)


def total(owed: dict[int, list[int]]) -> int:
    return sum(size + CALL_BYTES for sizes in owed.values() for size in sizes)


def test_what_is_sent_of_a_dropped_call_is_not_counted_twice() -> None:
    unread, old, new = Unread(CALL_BYTES), Call(), Call()
    unread.add(old, 1)
    unread.add(new, 1)
    unread.sent(old, 1)

    assert (old.dropped, new.dropped) == (1, 0)
    assert unread.bytes == CALL_BYTES + 1
