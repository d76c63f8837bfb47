"""Bytes: good messages that were damaged on the way, and bytes that never were a message. Knows no message's fields.

Source of the encoding: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Callable
from random import Random

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
MOST_DEPTH = 300
"""Of groups inside groups; protobuf's parsers give up at 100."""


def damaged(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change a message in one to four places; the other one is what it is spliced with."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(MUTATIONS)(rng, damaged, other)
    return bytes(damaged)


def noise(rng: Random) -> bytes:
    """Draw bytes that mean nothing, of many lengths and many likelihoods of each bit."""
    length = rng.choice((0, 1, 2, 3, 5, 8, 20, 100, 1000))
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(length)
    if kind == 1:
        return bytes([rng.randrange(256)]) * length
    if kind == 2:
        return bytes(rng.choice(b"\x0a\x12\x1a\x22\x2a\x32\x3a\x00\x01\x02\x08") for _ in range(length))
    return bytes([GROUP | rng.randint(1, 15) << 3]) * min(length, MOST_DEPTH)


def fields(rng: Random, depth: int = 0) -> bytes:
    """Draw fields that are well formed, of any number and type, some with fields inside: nearly always a message."""
    written = bytearray()
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        number = rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 15, 16, 2**29 - 1))
        wire_type = rng.choice((VARINT, BYTES, BYTES, BYTES, FIXED32, FIXED64))
        written += varint(number << 3 | wire_type)
        if wire_type == VARINT:
            written += varint(rng.choice((0, 1, 127, 128, 2**31, 2**63, 2**64 - 1)))
        elif wire_type == BYTES:
            text = rng.choice((b"", b"x", b"lstm", b"FP32", rng.randbytes(3), bytes(12)))
            content = fields(rng, depth + 1) if depth < 4 and rng.random() < 0.4 else text
            written += varint(len(content)) + content
        else:
            written += rng.randbytes(4 if wire_type == FIXED32 else 8)
    return bytes(written)


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _flip(rng: Random, content: bytearray, _: bytes) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, content: bytearray, _: bytes) -> None:
    if content:
        content[rng.randrange(len(content))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _truncate(rng: Random, content: bytearray, _: bytes) -> None:
    del content[rng.randint(0, len(content)) :]


def _leave_out(rng: Random, content: bytearray, _: bytes) -> None:
    at = rng.randint(0, len(content))
    del content[at : at + rng.choice((1, 2, 8))]


def _insert(rng: Random, content: bytearray, _: bytes) -> None:
    at = rng.randint(0, len(content))
    content[at:at] = rng.randbytes(rng.choice((1, 2, 5, 30)))


def _insert_number(rng: Random, content: bytearray, _: bytes) -> None:
    at = rng.randint(0, len(content))
    content[at:at] = rng.choice((varint(2**31), varint(2**64 - 1), b"\xff" * 11, varint(rng.randrange(2**20))))


def _repeat(rng: Random, content: bytearray, _: bytes) -> None:
    at = rng.randint(0, len(content))
    part = content[at : at + rng.choice((1, 4, 20, 100))]
    content[at:at] = part * rng.choice((1, 2, 20))


def _splice(rng: Random, content: bytearray, other: bytes) -> None:
    content[rng.randint(0, len(content)) :] = other[rng.randint(0, len(other)) :]


def _merge(_: Random, content: bytearray, other: bytes) -> None:
    """Two messages in a row are one, as protobuf has it."""
    content += other


def _append(rng: Random, content: bytearray, _: bytes) -> None:
    content += fields(rng)


def _nest(rng: Random, content: bytearray, _: bytes) -> None:
    """Groups inside groups, of a field that nobody knows."""
    depth = rng.choice((1, 10, MOST_DEPTH))
    content += bytes([0x7B]) * depth + bytes([0x7C]) * rng.choice((depth, depth, depth - 1))


Mutation = Callable[[Random, bytearray, bytes], None]
MUTATIONS: tuple[Mutation, ...] = (
    _flip, _overwrite, _truncate, _leave_out, _insert, _insert_number, _repeat, _splice, _merge, _append, _nest
)  # fmt: skip
