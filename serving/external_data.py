"""Whether an ONNX file leaves tensors to other files, which a manifest's checksum would not cover.

Such a file could name any path, and what lies there could change after the proofs were made. The server has no onnx
package, so the file is read as what it is, protobuf: only what can hold a tensor is looked into, weights are skipped.

Source: onnx.proto of ONNX 1.20 (field numbers); protobuf's encoding, https://protobuf.dev/programming-guides/encoding/.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.errors import ArtifactError

_Data = mmap.mmap | bytes
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Fields of each kind of message that hold a message that can hold a tensor."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; groups are long gone and ONNX never had any."""
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT_BITS = 70


def check_self_contained(path: Path) -> None:
    """Check that an ONNX file holds all of its tensors.

    Raises:
        ArtifactError: a tensor lies elsewhere, or the file cannot be read as ONNX.
    """
    with path.open("rb") as file:
        data: _Data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        try:
            external = _has_external_tensor(data)
        except (ValueError, IndexError) as error:
            raise ArtifactError(f"{path}: no ONNX file ({error}); export the model again") from error
        finally:
            if isinstance(data, mmap.mmap):
                data.close()
    if external:
        raise ArtifactError(
            f"{path}: its weights lie in other files (external data), which no checksum covers; save the model as one "
            "file and export it again"
        )


def _has_external_tensor(data: _Data) -> bool:
    stack = [("model", 0, len(data))]
    while stack:
        kind, start, end = stack.pop()
        children = _CHILDREN[kind]
        for number, value, length in _fields(data, start, end):
            if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and (value or length))):
                return True
            if number in children:
                stack.append((children[number], value, value + length))
    return False


def _fields(data: _Data, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield each field's number, with its value and 0, or where its content starts and how long it is."""
    while at < end:
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        value, length = at, 0
        if wire_type == VARINT:
            value, at = _varint(data, at)
        elif wire_type == BYTES:
            length, value = _varint(data, at)
            at = value + length
        elif wire_type in FIXED_BYTES:
            length = FIXED_BYTES[wire_type]
            at += length
        else:
            raise ValueError(f"wire type {wire_type} at byte {at}")
        if at > end:
            raise ValueError(f"a field passes the end of its message at byte {end}")
        yield number, value, length


def _varint(data: _Data, at: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while shift < LONGEST_VARINT_BITS:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"a number without an end at byte {at}")
