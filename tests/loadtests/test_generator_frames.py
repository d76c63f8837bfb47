"""The load generator against a peer that sends what grpcio's server cannot be made to send."""

import socket

import numpy as np
import pytest

from tests.loadtests.generating import (
    ERROR_ANSWER,
    LARGE,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNKNOWN,
    Generator,
)
from tests.loadtests.http2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    STATUS_200,
    STATUS_OK,
    WINDOW_UPDATE,
    Peer,
    frame,
    framed,
    peer,
)


def test_requests_on_a_lost_connection_are_unavailable(generator: Generator) -> None:
    def hang_up(connection: socket.socket) -> None:
        Peer(connection).wait_for_requests(5)

    with peer(hang_up) as port:
        records = generator.closed_loop(port, [b"request"], 5, "--connections", "1")

    assert records["status"].tolist() == [UNAVAILABLE] * 5


def test_requests_beyond_the_servers_limit_of_streams_wait_their_turn(generator: Generator) -> None:
    most_streams = 2

    def answer_one_by_one(connection: socket.socket) -> None:
        limit = bytes([0, 3]) + most_streams.to_bytes(4, "big")
        served = Peer(connection, limit)
        for number in range(40):
            assert served.wait_for_requests(number + 1) <= number + most_streams
            stream = 2 * number + 1
            answer = frame(HEADERS, END_HEADERS, stream, STATUS_200) + frame(DATA, 0, stream, framed(b"yes"))
            served.send(answer + frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_OK))

    with peer(answer_one_by_one) as port:
        records = generator.open_loop(port, [b"request"], np.zeros(40), "--connections", "1")

    assert records["status"].tolist() == [OK] * 40
    assert records["meant"].tolist() == [0.0] * 40


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200), UNKNOWN),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200 + STATUS_OK), UNKNOWN),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200 + b"\x00\x0bgrpc-status\x0213"), 13),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200 + b"\x00\x0bgrpc-status\x02no"), UNKNOWN),
        (frame(RST_STREAM, 0, 1, bytes(3) + b"\x07"), UNAVAILABLE),
        (frame(GOAWAY, 0, 0, bytes(8)), UNAVAILABLE),
        (frame(DATA, 0, 1, framed(b"no headers")), UNAVAILABLE),
    ],
    ids=["no status", "OK without an answer", "trailers only", "not a number", "reset", "GOAWAY", "a broken server"],
)
def test_an_end_without_an_answer_has_a_status(generator: Generator, frames: bytes, status: int) -> None:
    def end(connection: socket.socket) -> None:
        served = Peer(connection)
        served.wait_for_requests(1)
        served.send(frames)

    with peer(end) as port:
        records = generator.open_loop(port, [b"request"], np.zeros(1), "--connections", "1")

    assert records["status"].tolist() == [status]


def test_a_request_that_the_server_answers_before_it_has_come_is_given_up(generator: Generator) -> None:
    def refuse(connection: socket.socket) -> None:
        served = Peer(connection)
        served.wait_for_requests(1)
        served.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200 + b"\x00\x0bgrpc-status\x018"))
        served.wait_for_the_end()

    with peer(refuse) as port:
        options = ["--connections", "1", "--patience", "20"]
        records = generator.open_loop(port, [b"request" + LARGE], np.zeros(1), *options)

    assert records["status"].tolist() == [RESOURCE_EXHAUSTED], "the window is 64 KiB, so that the rest never went out"


def test_a_caller_stops_when_the_server_takes_no_more(generator: Generator) -> None:
    def leave(connection: socket.socket) -> None:
        served = Peer(connection)
        served.wait_for_requests(1)
        served.send(frame(GOAWAY, content=bytes([0, 0, 0, 1]) + bytes(4)))
        answer = frame(HEADERS, END_HEADERS, 1, STATUS_200) + frame(DATA, 0, 1, framed(b"yes"))
        served.send(answer + frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_OK))
        served.wait_for_the_end()

    with peer(leave) as port:
        options = ["--connections", "1", "--seconds", "1"]
        records = generator.closed_loop(port, [b"request"], 1, *options)

    assert records["status"].tolist() == [OK]


def test_a_request_larger_than_the_sockets_buffers_arrives_whole(generator: Generator) -> None:
    message = np.random.default_rng(1).bytes(16_000_000)
    most = (2**31 - 1).to_bytes(4, "big")
    bodies: list[bytes] = []

    def read(connection: socket.socket) -> None:
        served = Peer(connection, bytes([0, 4]) + most)
        served.send(frame(WINDOW_UPDATE, content=(2**31 - 65536).to_bytes(4, "big")))
        bodies.append(served.read_body(len(framed(message))))

    with peer(read) as port:
        options = ["--connections", "1", "--patience", "20"]
        records = generator.open_loop(port, [message], np.zeros(1), *options)

    assert records["status"].tolist() == [UNAVAILABLE], "the server hung up when it had it"
    assert bodies == [framed(message)]


def test_answers_are_told_apart_however_they_are_cut_into_frames(generator: Generator) -> None:
    """Two answers in one frame, of which the first ends the request; a byte per frame; an empty answer; none."""

    def cut(connection: socket.socket) -> None:
        served = Peer(connection)
        served.wait_for_requests(1)
        served.send(frame(HEADERS, END_HEADERS, 1, STATUS_200))
        served.send(frame(DATA, 0, 1, framed(b"\x12") + framed(ERROR_ANSWER)))
        served.wait_for_requests(2)
        for byte in framed(ERROR_ANSWER):
            served.send(frame(DATA, 0, 1, bytes([byte])))
        served.wait_for_requests(3)
        served.send(frame(DATA, 0, 1, framed(b"")))
        served.wait_for_requests(4)
        served.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_OK))

    with peer(cut) as port:
        records = generator.closed_loop(port, [b"request"], 1, "--connections", "1", "--stream", "--seconds", "60")

    assert records["status"].tolist() == [OK, UNKNOWN, OK, UNKNOWN]
