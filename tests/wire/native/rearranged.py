"""Messages whose fields were left out, repeated, moved or changed, at any depth: well formed, and other than they were."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.fuzz.broken import BYTES, FIXED32, FIXED64, VARINT, varint

FIXED = {FIXED32: 4, FIXED64: 8}
NUMBERS = (0, 1, 2, 3, 9, 10, 2**31, 2**53 + 1, 2**63, 2**64 - 1)
DEEPER = 0.6
"""How often it is a field inside of the field that is changed, if there is any."""


class Field(NamedTuple):
    """Of a message, as it is encoded."""

    number: int
    wire_type: int
    content: bytes

    def encoded(self) -> bytes:
        content = varint(len(self.content)) + self.content if self.wire_type == BYTES else self.content
        return varint(self.number << 3 | self.wire_type) + content


Fields = list[Field]


def rearranged(rng: Random, content: bytes) -> bytes:
    """Change a message in one to three places."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _changed(rng, content)
    return content


def _changed(rng: Random, content: bytes) -> bytes:
    fields = _fields(content)
    if not fields:
        return content
    at = rng.randrange(len(fields))
    if fields[at].wire_type == BYTES and _fields(fields[at].content) and rng.random() < DEEPER:
        fields[at] = fields[at]._replace(content=_changed(rng, fields[at].content))
    else:
        rng.choice(EDITS)(rng, fields, at)
    return b"".join(field.encoded() for field in fields)


def _fields(content: bytes) -> Fields:
    """Return the fields of a message; none if it is no message, or one with groups."""
    fields: Fields = []
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            end = _varint(content, at)[1]
        elif wire_type == BYTES:
            size, at = _varint(content, at)
            end = at + size
        else:
            end = at + FIXED.get(wire_type, len(content))
        if number == 0 or end > len(content):
            return []
        fields.append(Field(number, wire_type, content[at:end]))
        at = end
    return fields


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends; behind the end of the bytes if it has none."""
    value = shift = 0
    while at < len(content):
        value |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return value, at
    return 0, len(content) + 1


def _leave_out(_: Random, fields: Fields, at: int) -> None:
    del fields[at]


def _repeat(rng: Random, fields: Fields, at: int) -> None:
    fields[at:at] = [fields[at]] * rng.choice((1, 1, 2, 50))


def _move(rng: Random, fields: Fields, at: int) -> None:
    fields.insert(rng.randint(0, len(fields) - 1), fields.pop(at))


def _renumber(rng: Random, fields: Fields, at: int) -> None:
    fields[at] = fields[at]._replace(number=rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 100, 2**29 - 1)))


def _split(rng: Random, fields: Fields, at: int) -> None:
    """One message in two pieces, which are merged again; or two values where there was one."""
    content = fields[at].content
    cut = rng.randint(0, len(content))
    if fields[at].wire_type == BYTES:
        fields[at : at + 1] = [fields[at]._replace(content=content[:cut]), fields[at]._replace(content=content[cut:])]


def _replace(rng: Random, fields: Fields, at: int) -> None:
    field = fields[at]
    if field.wire_type == VARINT:
        content = varint(rng.choice(NUMBERS))
    elif field.wire_type == BYTES:
        content = rng.choice((b"", field.content[:-1], field.content * 2, bytes(len(field.content)), b"\xff\xfe"))
    else:
        content = rng.randbytes(len(field.content))
    fields[at] = field._replace(content=content)


def _retype(rng: Random, fields: Fields, at: int) -> None:
    """A number where bytes are meant, and the other way about; numbers one by one are a packed field's other form."""
    wire_type, content = rng.choice(((VARINT, b"\1"), (BYTES, b"\1\1"), (FIXED32, bytes(4)), (FIXED64, bytes(8))))
    fields[at] = Field(fields[at].number, wire_type, content)


EDITS: tuple[Callable[[Random, Fields, int], None], ...] = (
    _leave_out, _repeat, _move, _renumber, _split, _replace, _retype
)  # fmt: skip
