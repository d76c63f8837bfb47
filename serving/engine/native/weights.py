"""The packed weights' file of the native engine: quantized by rounding, laid out as its kernels read it.

Weights have 7 bits and a scale per output channel. A kernel multiplies unsigned bytes (weight + 64, 1 to 127) by signed
ones (activations, -127 to 127, each row with its own scale; `src/scale.h` says how it is chosen).

Layout, little-endian, every section at a multiple of 64 bytes:

    header       64 bytes: magic "LSTMQNT1", uint32 format, uint32 layers, uint64 bytes of the file, zeros
    records      one per layer, 128 bytes: uint32 operator (LSTM, GRU, RNN), direction (forward, reverse,
                 both), flags (1 linear_before_reset, 2 peepholes, 4 Relu), input, hidden; uint32 zero; for each of two
                 directions uint64 offsets of five sections, 0 where there is none
    sections     input weights, uint8[blocks, gates, K / 4, 16, 4]; recurrent weights, the same; float32[3, blocks,
                 gates, 16]: scales of the former, scales of the latter, sums of the former over K; biases,
                 float32[blocks, gates (a GRU: 4), 16]; peepholes, float32[blocks, 3, 16]

Units are cut into blocks of 16, the last one filled up with zeros; within a block come its gates one after the other,
so that one pass over a block has all that its cells need. K (input or hidden) is filled up to a multiple of 8.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAGIC = b"LSTMQNT1"
FORMAT = 1
UNITS = 16
"""Units of a block."""
OCTET = 8
ALIGNMENT = 64
HEADER_BYTES, RECORD_BYTES = 64, 128
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OPERATORS = {"LSTM": 0, "GRU": 1, "RNN": 2}
DIRECTIONS = {"forward": 0, "reverse": 1, "bidirectional": 2}
LINEAR_BEFORE_RESET, PEEPHOLE, RELU = 1, 2, 4
LARGEST_WEIGHT = 63
ZERO = 64
"""What is added to a weight to make it unsigned."""
LARGEST_SIZE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatLayer:
    """One recurrent operator's weights as ONNX has them (operators LSTM, GRU, RNN), gates in ONNX's order.

    Attributes:
        w: FP32 [directions, gates * hidden, input].
        r: FP32 [directions, gates * hidden, hidden].
        b: FP32 [directions, 2 * gates * hidden], or None.
        p: peepholes of an LSTM, FP32 [directions, 3 * hidden], or None.
        linear_before_reset: of a GRU.
        relu: the RNN's activation is Relu instead of Tanh.
    """

    operator: Literal["LSTM", "GRU", "RNN"]
    direction: Literal["forward", "reverse", "bidirectional"]
    w: Floats
    r: Floats
    b: Floats | None = None
    p: Floats | None = None
    linear_before_reset: bool = False
    relu: bool = False

    @property
    def hidden(self) -> int:
        """Units per direction."""
        return int(self.r.shape[-1])

    @property
    def input(self) -> int:
        """Features of a step."""
        return int(self.w.shape[-1])

    @property
    def flags(self) -> int:
        """The record's flags."""
        return LINEAR_BEFORE_RESET * self.linear_before_reset + PEEPHOLE * (self.p is not None) + RELU * self.relu

    def check(self) -> None:
        """Raise ValueError if shapes disagree, sizes are beyond the format, or a value is not finite."""
        directions = 2 if self.direction == "bidirectional" else 1
        rows = GATES[self.operator] * self.hidden
        expected: dict[str, tuple[int, ...]] = {
            "w": (directions, rows, self.input),
            "r": (directions, rows, self.hidden),
        }
        if self.b is not None:
            expected["b"] = (directions, 2 * rows)
        if self.p is not None:
            expected["p"] = (directions, 3 * self.hidden)
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(
                    f"{self.operator} weights '{name}' are {array.dtype}{list(array.shape)}, "
                    f"expected float32{list(shape)}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{self.operator} weights '{name}' hold NaN or infinity")
        if not (1 <= self.hidden <= LARGEST_SIZE and 1 <= self.input <= LARGEST_SIZE):
            raise ValueError(f"input {self.input} and hidden {self.hidden} must be 1 to {LARGEST_SIZE}")
        only = {"p": (self.p is not None, "LSTM"), "linear_before_reset": (self.linear_before_reset, "GRU")}
        only["relu"] = (self.relu, "RNN")
        for name, (given, operator) in only.items():
            if given and self.operator != operator:
                raise ValueError(f"'{name}' is for {operator}, not for {self.operator}")


def pack(layers: Sequence[FloatLayer]) -> bytes:
    """Quantize the layers and return the content of `weights.bin`; a layer's index is its place in `layers`.

    Raises:
        ValueError: a layer's arrays do not fit each other or the format.
    """
    content = bytearray(HEADER_BYTES + RECORD_BYTES * len(layers))
    for index, layer in enumerate(layers):
        layer.check()
        sections = [section for direction in range(len(layer.w)) for section in _sections(layer, direction)]
        offsets = [0 if section is None else _append(content, section) for section in sections]
        offsets += [0] * (10 - len(offsets))
        record = struct.pack(
            "<6I10Q",
            OPERATORS[layer.operator], DIRECTIONS[layer.direction], layer.flags, layer.input, layer.hidden, 0, *offsets,
        )  # fmt: skip
        start = HEADER_BYTES + RECORD_BYTES * index
        content[start : start + len(record)] = record
    _append(content, b"")
    content[:24] = struct.pack("<8sIIQ", MAGIC, FORMAT, len(layers), len(content))
    return bytes(content)


def quantize_channels(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round each row of float32[channels, inputs] to -63 to 63 times its own scale.

    Returns:
        int8[channels, inputs], and the scales, float32[channels]; a row of zeros has scale 0.
    """
    largest = np.abs(weights).max(axis=1)
    scales = (largest / np.float32(LARGEST_WEIGHT)).astype(np.float32)
    safe = np.where(scales > 0, scales, np.float32(1))
    rounded = np.rint(weights / safe[:, None]).clip(-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return rounded.astype(np.int8), scales


def _sections(layer: FloatLayer, direction: int) -> tuple[bytes | None, ...]:
    """Return a direction's sections in the record's order."""
    gates = GATES[layer.operator]
    w, w_scales = quantize_channels(layer.w[direction])
    r, r_scales = quantize_channels(layer.r[direction])
    column_sums = w.sum(axis=1, dtype=np.float64) * w_scales
    of_channels = (w_scales, r_scales, column_sums.astype(np.float32))
    scales = np.concatenate([_by_block(values, gates).ravel() for values in of_channels])
    peepholes = None if layer.p is None else _by_block(layer.p[direction], 3).tobytes()
    biases = _by_block(*_biases(layer, direction)).tobytes()
    return _matrix(w, gates), _matrix(r, gates), scales.tobytes(), biases, peepholes


def _biases(layer: FloatLayer, direction: int) -> tuple[Floats, int]:
    """Return biases added once, and how many gates they have.

    A GRU has four: the candidate's input and recurrent biases stay apart, because with linear_before_reset the second
    goes through the reset gate.
    """
    gates, hidden = GATES[layer.operator], layer.hidden
    both = np.zeros(2 * gates * hidden, np.float32) if layer.b is None else layer.b[direction]
    of_input, of_state = both[: gates * hidden], both[gates * hidden :]
    if layer.operator != "GRU":
        return of_input + of_state, gates
    shared = of_input[: 2 * hidden] + of_state[: 2 * hidden]
    candidate = [of_input[2 * hidden :], of_state[2 * hidden :]]
    if not layer.linear_before_reset:
        candidate = [candidate[0] + candidate[1], np.zeros_like(candidate[0])]
    return np.concatenate([shared, *candidate]), 4


def _by_block(values: NDArray[Any], gates: int) -> NDArray[Any]:
    """Order [gates * hidden, ...] as [blocks, gates, 16, ...], the last block filled up with zeros."""
    hidden = values.shape[0] // gates
    blocks = -(-hidden // UNITS)
    filled = np.zeros((gates, blocks * UNITS, *values.shape[1:]), values.dtype)
    filled[:, :hidden] = values.reshape(gates, hidden, *values.shape[1:])
    return np.ascontiguousarray(filled.reshape(gates, blocks, UNITS, *values.shape[1:]).swapaxes(0, 1))


def _matrix(weights: NDArray[np.int8], gates: int) -> bytes:
    """Lay int8[gates * hidden, inputs] out as uint8[blocks, gates, inputs / 4, 16, 4], each weight plus 64."""
    columns = -(-weights.shape[1] // OCTET) * OCTET
    filled = np.zeros((weights.shape[0], columns), np.int8)
    filled[:, : weights.shape[1]] = weights
    blocks = _by_block(filled, gates)  # [blocks, gates, 16, columns]
    quads = blocks.reshape(*blocks.shape[:3], columns // 4, 4).swapaxes(2, 3)
    return (quads.astype(np.int16) + ZERO).astype(np.uint8).tobytes()


def _append(content: bytearray, section: bytes) -> int:
    """Add a section at the next aligned place and return its offset."""
    content.extend(bytes(-len(content) % ALIGNMENT))
    offset = len(content)
    content.extend(section)
    return offset
