"""The native layers against the same arithmetic in numpy, and against PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.engine.native.weights import GATES, FloatLayer, quantize_channels
from tests.engine.native.exact import largest_group, open_layer, open_layers, quantize_row, random_layer, step

KINDS: dict[str, dict[str, Any]] = {
    "LSTM": {},
    "LSTM with peepholes": {"peephole": True},
    "LSTM without biases": {"bias": False},
    "GRU": {},
    "GRU, linear before reset": {"linear_before_reset": True},
    "RNN": {},
    "RNN with Relu": {"relu": True},
}
GATE_ERROR = 2e-6
"""Of gates in float32 with sigmoid and tanh within 3e-7, against float64."""


def by_channel(blocks: np.ndarray[Any, Any], hidden: int) -> np.ndarray[Any, Any]:
    """Order [rows, blocks, gates, 16] as [rows, gates * hidden]."""
    rows, _, gates, _ = blocks.shape
    return blocks.swapaxes(1, 2).reshape(rows, gates, -1)[:, :, :hidden].reshape(rows, gates * hidden)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operator=st.sampled_from(sorted(GATES)),
    columns=st.integers(1, 70),
    hidden=st.integers(1, 40),
    rows=st.integers(1, 11),
    values=st.sampled_from(["normal", "all positive", "signs", "one huge", "zeros", "tiny"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_are_those_of_exact_integers(
    tmp_path: Path, instruction_set: str, operator: str, columns: int, hidden: int, rows: int, values: str, seed: int
) -> None:
    layer = random_layer(seed, operator, "forward", columns, hidden)
    weights = open_layers(tmp_path, [layer])
    assert weights.instruction_set == instruction_set
    for matrix, float_weights in enumerate((layer.w[0], layer.r[0])):
        x = draw(values, seed, (rows, float_weights.shape[1]))
        sums, scales = weights.sums(0, 0, matrix, x)
        quantized, _ = quantize_channels(float_weights)
        for row in range(rows):
            integers, scale, _ = quantize_row(x[row], centred=matrix == 0)
            assert abs(integers).max() <= 127
            assert largest_group(integers) <= 258
            assert scales[row] == scale
            expected = quantized.astype(np.int64) @ integers
            np.testing.assert_array_equal(by_channel(sums, layer.hidden)[row], expected)


def draw(values: str, seed: int, shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    x = random.normal(size=shape)
    if values == "all positive":
        x = np.abs(x) + 3
    elif values == "signs":
        x = np.sign(x)
    elif values == "one huge":
        x[0, 0] = 1e6
    elif values == "zeros":
        x[:] = 0
    elif values == "tiny":
        x *= 1e-35
    return x.astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 5), (17, 33), (40, 64)])
def test_a_step_is_the_operator_on_quantized_products(
    tmp_path: Path, instruction_set: str, kind: str, inputs: int, hidden: int
) -> None:
    del instruction_set
    layer = random_layer(7, kind[:4].strip(" ,"), "bidirectional", inputs, hidden, **KINDS[kind])
    random = np.random.default_rng(8)
    x = random.normal(size=(1, 9, inputs)).astype(np.float32)
    h, c = (random.uniform(-1, 1, (2, 9, hidden)).astype(np.float32) for _ in range(2))
    y, y_h, y_c = open_layer(tmp_path, layer).run(x, None, h, c)
    np.testing.assert_array_equal(y[0], y_h)
    for direction in (0, 1):
        for row in range(9):
            after_h, after_c = step(layer, direction, x[0, row], h[direction, row], c[direction, row])
            np.testing.assert_allclose(y_h[direction, row], after_h, rtol=GATE_ERROR, atol=GATE_ERROR)
            if layer.operator == "LSTM":
                np.testing.assert_allclose(y_c[direction, row], after_c, rtol=GATE_ERROR, atol=GATE_ERROR)


def torch_layer(layer: FloatLayer) -> torch.nn.Module:
    """Return PyTorch's module with the layer's weights."""
    kinds: dict[str, Any] = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}
    order = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}[layer.operator]
    options = {"nonlinearity": "relu" if layer.relu else "tanh"} if layer.operator == "RNN" else {}
    module = kinds[layer.operator](layer.input, layer.hidden, bidirectional=True, **options)
    rows = GATES[layer.operator] * layer.hidden
    assert layer.b is not None
    with torch.no_grad():
        for direction, suffix in enumerate(("", "_reverse")):
            of_direction = {
                "weight_ih_l0": layer.w[direction],
                "weight_hh_l0": layer.r[direction],
                "bias_ih_l0": layer.b[direction][:rows],
                "bias_hh_l0": layer.b[direction][rows:],
            }
            for name, array in of_direction.items():
                gates = array.reshape(GATES[layer.operator], layer.hidden, -1)[order]
                parameter = getattr(module, name + suffix)
                parameter.copy_(torch.from_numpy(gates.reshape(parameter.shape)))
    assert isinstance(module, torch.nn.Module)
    return module


@pytest.mark.parametrize("kind", ["LSTM", "GRU, linear before reset", "RNN", "RNN with Relu"])
def test_packed_sequences_are_within_a_few_percent_of_pytorchs(tmp_path: Path, kind: str) -> None:
    layer = random_layer(1, kind[:4].strip(" ,"), "bidirectional", 24, 48, **KINDS[kind])
    random = np.random.default_rng(2)
    x = random.normal(size=(20, 6, 24)).astype(np.float32)
    lengths = np.array([20, 3, 1, 17, 20, 8], np.int32)
    y, y_h, _ = open_layer(tmp_path, layer).run(x, lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), enforce_sorted=False
    )
    with torch.no_grad():
        out, state = torch_layer(layer)(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    expected_y = expected.numpy().reshape(20, 6, 2, 48).swapaxes(1, 2)
    expected_h = (state[0] if isinstance(state, tuple) else state).numpy()
    for found, wanted in ((y, expected_y), (y_h, expected_h)):
        assert np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)) < 0.02
    for row, length in enumerate(lengths):
        assert not y[length:, :, row].any()
