"""The native engine's arithmetic in numpy: integers exact, floats in float64 after the exact sums."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.native.library import RecurrentLayer, Weights
from serving.engine.native.weights import GATES, FloatLayer, Floats, pack, quantize_channels

Array = NDArray[Any]
F32 = np.float32


def random_layer(seed: int, operator: str, direction: str, inputs: int, hidden: int, **kinds: Any) -> FloatLayer:
    """Return a layer with weights as PyTorch draws them; `peephole=True` adds peepholes, `bias=False` leaves biases out."""
    random = np.random.default_rng(seed)
    directions, rows = 2 if direction == "bidirectional" else 1, GATES[operator] * hidden

    def draw(*shape: int) -> Floats:
        return np.asarray(random.uniform(-1, 1, shape) / np.sqrt(hidden), F32)

    peephole, bias = kinds.pop("peephole", False), kinds.pop("bias", True)
    return FloatLayer(
        operator=operator,  # type: ignore[arg-type]
        direction=direction,  # type: ignore[arg-type]
        w=draw(directions, rows, inputs),
        r=draw(directions, rows, hidden),
        b=draw(directions, 2 * rows) if bias else None,
        p=draw(directions, 3 * hidden) if peephole else None,
        **kinds,
    )


def open_layers(folder: Path, layers: Sequence[FloatLayer]) -> Weights:
    """Write `weights.bin` and map it."""
    path = folder / "weights.bin"
    path.write_bytes(pack(layers))
    return Weights(path)


def open_layer(folder: Path, layer: FloatLayer, *, threads: int = 1) -> RecurrentLayer:
    """Return a layer that runs."""
    return RecurrentLayer(open_layers(folder, [layer]), 0, threads=threads)


def quantize_row(row: Floats, *, centred: bool) -> tuple[Array, np.float32, np.float32]:
    """Return a row as integers, its scale, and the middle that was taken off, as src/scale.h says."""
    middle = F32(0.5) * row.min() + F32(0.5) * row.max() if centred else F32(0)
    largest = max(row.max() - middle, middle - row.min()) if centred else np.abs(row).max()
    if largest < F32(1e-30):
        return np.zeros(len(row), np.int64), F32(0), middle
    scale, inverse = largest / F32(127), F32(127) / largest
    values = np.rint((row - middle) * inverse).astype(np.int64)
    group = largest_group(values)
    if group > 258:
        scale = scale * (F32(group + 2) / F32(256))
        values = np.rint((row - middle) * (F32(1) / scale)).astype(np.int64)
    return values, scale, middle


def largest_group(values: Array) -> int:
    """Return the largest sum of values of one sign in a group of four: columns 0, 1, 4, 5 or 2, 3, 6, 7 of an octet."""
    octets = np.pad(values, (0, -len(values) % 8)).reshape(-1, 8)
    groups = np.concatenate([octets[:, [0, 1, 4, 5]], octets[:, [2, 3, 6, 7]]])
    return int(max(groups.clip(0).sum(axis=1).max(), -groups.clip(None, 0).sum(axis=1).min()))


def product(row: Floats, weights: Floats, *, centred: bool) -> Array:
    """Return float64[channels]: the quantized row times the quantized weights, float32[channels, columns]."""
    values, scale, middle = quantize_row(row, centred=centred)
    quantized, scales = quantize_channels(weights)
    sums = quantized.astype(np.int64) @ values
    return np.asarray(sums * np.float64(scale) * scales + np.float64(middle) * (quantized.sum(axis=1) * scales))


def step(layer: FloatLayer, direction: int, x: Floats, h: Floats, c: Floats) -> tuple[Array, Array]:
    """Return the next h and c, float64[hidden], of one row: ONNX's operators LSTM, GRU and RNN with quantized products."""
    gates, n = GATES[layer.operator], layer.hidden
    w, r = layer.w[direction], layer.r[direction]
    b = np.zeros(2 * gates * n) if layer.b is None else layer.b[direction].astype(np.float64)
    wb, rb = b[: gates * n], b[gates * n :]
    of_x = product(x, w, centred=True) + wb
    of_h = product(h, r, centred=False) + rb
    if layer.operator == "RNN":
        value = of_x + of_h
        return (np.maximum(value, 0) if layer.relu else np.tanh(value)), c
    if layer.operator == "GRU":
        update, reset = (sigmoid((of_x + of_h)[i * n : (i + 1) * n]) for i in (0, 1))
        if layer.linear_before_reset:
            candidate = np.tanh(of_x[2 * n :] + reset * of_h[2 * n :])
        else:
            reset_h = (sigmoid32((of_x + of_h)[n : 2 * n]) * h).astype(F32)
            candidate = np.tanh(of_x[2 * n :] + product(reset_h, r[2 * n :], centred=False) + rb[2 * n :])
        return candidate + update * (h - candidate), c
    i, o, f, g = (of_x + of_h).reshape(4, n)
    pi, po, pf = np.zeros((3, n)) if layer.p is None else layer.p[direction].reshape(3, n)
    after = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
    return sigmoid(o + po * after) * np.tanh(after), after


def sigmoid(x: Array) -> Array:
    """Return the logistic function in float64."""
    return 1 / (1 + np.exp(-x))


def sigmoid32(x: Array) -> Floats:
    """Return it rounded to float32."""
    return sigmoid(x).astype(F32)
