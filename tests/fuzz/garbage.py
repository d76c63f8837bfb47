"""What comes over a connection before it is a message: other protocols, damaged HTTP/2, and HTTP/2 that means harm.

Source of the frames: RFC 9113, section 6; of header blocks: RFC 7541; of messages: gRPC over HTTP/2, "Length-Prefixed-Message".
"""

from collections.abc import Callable, Mapping
from random import Random

from tests.fuzz.broken import noise
from tests.loadtests.http2_peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    framed,
)
from tests.wire.deaf import headers

PRIORITY, PUSH_PROMISE, PING, CONTINUATION = 2, 5, 6, 9
KINDS = (
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
    10,
    255,
)
HELLO = PREFACE + frame(SETTINGS)
PATHS = ("/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ServerLive",
         "/grpc.health.v1.Health/Watch", "/no.such/Method", "/", "no path", "")  # fmt: skip
LARGEST = 2**31 - 1
MANY = 100


def other_protocols(rng: Random) -> bytes:
    return rng.choice(
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /inference HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + bytes(100),
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"",
            rng.randbytes(3000),
        )
    )


def cut_short(rng: Random) -> bytes:
    """A good beginning that ends anywhere, also within the preface or a frame's head."""
    whole = HELLO + frame(HEADERS, END_HEADERS, 1, headers(PATHS[0])) + frame(DATA, END_STREAM, 1, framed(bytes(30)))
    return whole[: rng.randint(1, len(whole))]


def noise_after_the_preface(rng: Random) -> bytes:
    return rng.choice((PREFACE, HELLO)) + noise(rng)


def any_frames(rng: Random) -> bytes:
    return HELLO + b"".join(
        frame(
            rng.choice(KINDS), rng.randrange(256), rng.choice((0, 1, 2, 3, LARGEST, rng.randrange(2**32))),
            rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 100))),
        )
        for _ in range(rng.randint(1, 20))
    )  # fmt: skip


def lengths_that_lie(rng: Random) -> bytes:
    size = rng.choice((2**24 - 1, 2**14 + 1, 2**20))
    return HELLO + size.to_bytes(3, "big") + bytes([rng.choice(KINDS), rng.randrange(256), 0, 0, 0, 1]) + bytes(200)


def settings(rng: Random) -> bytes:
    """Thousands of them, of numbers and values that there are not."""
    count = rng.choice((1, 10, 2700))
    content = b"".join(
        rng.randrange(10).to_bytes(2, "big") + rng.choice((0, 1, LARGEST, 2**32 - 1)).to_bytes(4, "big")
        for _ in range(count)
    )
    return PREFACE + frame(SETTINGS, rng.choice((0, 0, ACK)), rng.choice((0, 0, 1)), content) * rng.choice((1, MANY))


def resets(_: Random) -> bytes:
    """Calls that are taken back at once."""
    block = headers(PATHS[0])
    return HELLO + b"".join(
        frame(HEADERS, END_HEADERS, 2 * number + 1, block)
        + frame(RST_STREAM, 0, 2 * number + 1, (8).to_bytes(4, "big"))
        for number in range(MANY)
    )


def pings(rng: Random) -> bytes:
    return HELLO + b"".join(frame(PING, rng.choice((0, ACK)), 0, rng.randbytes(8)) for _ in range(MANY))


def headers_without_an_end(rng: Random) -> bytes:
    """By continuations, which a peer may send as many as it likes of."""
    block = rng.choice((b"", b"\0\x01a\x01b", headers(PATHS[0])))
    return HELLO + frame(HEADERS, 0, 1, headers(PATHS[0])) + frame(CONTINUATION, 0, 1, block) * MANY


def header_blocks(rng: Random) -> bytes:
    """Indices of nothing, lengths that lie, a table of no size or of every size, paths of no method."""
    block = rng.choice(
        (
            rng.randbytes(60),
            b"\x80",
            b"\xff\xff\xff\xff\xff\x0f",
            b"\x3f\xff\xff\xff\xff\x0f",
            b"\0\x7f\xff\xff",
            headers(rng.choice(PATHS)),
            headers(PATHS[0])[: rng.randint(1, 60)],
            headers(PATHS[0])
            + b"\0\x0cgrpc-timeout\x0a"
            + rng.choice((b"9999999999", b"-1S\0\0\0\0\0\0\0", b"1000000000")),
            headers(PATHS[0]) + b"\0\x0dgrpc-encoding\x04" + rng.choice((b"gzip", b"none")),
            headers(PATHS[0]) + (b"\0\x01k\x7f" + bytes([0x61]) * 127) * 150,
        )
    )
    return (
        HELLO
        + frame(HEADERS, END_HEADERS | rng.choice((0, END_STREAM)), 1, block)
        + frame(DATA, END_STREAM, 1, framed(b""))
    )


def messages(rng: Random) -> bytes:
    """Prefixes that promise too much, too little, or a compression that is none."""
    body = rng.choice(
        (
            b"\0\xff\xff\xff\xff",
            b"\0\0\0\0\x0aabc",
            b"\x01\0\0\0\x03abc",
            b"\xff\0\0\0\0",
            framed(b"") * 50,
            framed(b"abc") + b"\0\0",
            b"\0",
            b"",
        )
    )
    return (
        HELLO
        + frame(HEADERS, END_HEADERS, 1, headers(rng.choice(PATHS[:3])))
        + frame(DATA, rng.choice((0, END_STREAM)), 1, body)
    )


def goaways(rng: Random) -> bytes:
    """With words to the server, which must not stand in its log."""
    words = rng.choice((b"", b'x\n{"level": "CRITICAL"}\n', rng.randbytes(2000)))
    return HELLO + frame(GOAWAY, 0, 0, bytes(4) + rng.randrange(20).to_bytes(4, "big") + words) * rng.choice((1, 3))


def windows(rng: Random) -> bytes:
    grown = frame(WINDOW_UPDATE, 0, rng.choice((0, 1)), rng.choice((0, 1, LARGEST)).to_bytes(4, "big"))
    return HELLO + frame(HEADERS, END_HEADERS, 1, headers(PATHS[0])) + grown * rng.choice((1, MANY))


def streams_that_are_not_open(rng: Random) -> bytes:
    numbers = [rng.choice((0, 1, 2, 3, 5, LARGEST)) for _ in range(10)]
    return HELLO + b"".join(
        frame(rng.choice((DATA, RST_STREAM, HEADERS)), END_HEADERS, number, headers(PATHS[1])[:4]) for number in numbers
    )


GARBAGE: Mapping[str, Callable[[Random], bytes]] = {
    made.__name__: made
    for made in (
        other_protocols, cut_short, noise_after_the_preface, any_frames, lengths_that_lie, settings, resets, pings,
        headers_without_an_end, header_blocks, messages, goaways, goaways, windows, streams_that_are_not_open,
    )
}  # fmt: skip
