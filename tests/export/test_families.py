"""Every recurrent layer in ONNX against PyTorch's, in padded batches of mixed lengths with dirty padding."""

from functools import partial

import numpy as np
import onnx
import pytest
from torch import nn

from export.data import noise, pool
from export.proving.proofs import measure_chunks
from export.pytorch.reference import Reference
from export.runtime import Runtime
from tests.export.families import FAMILIES, HIDDEN, WAYS, Zoo, forms
from tests.export.family_models import (
    IMAGE,
    Acoustic,
    AllCausal,
    AttentionClassifier,
    CausalWeather,
    MaskedAttentionClassifier,
    ResidualStack,
    Tagger,
    Weather,
)
from tests.export.support import X, exported, rows_of, worst_difference

LENGTHS = (4, 9, 1, 6)


@pytest.fixture(scope="module", params=FAMILIES)
def zoo(request: pytest.FixtureRequest) -> tuple[str, Runtime, Reference]:
    runtime, reference = exported(partial(Zoo, request.param))
    return request.param, runtime, reference


@pytest.mark.parametrize("way", WAYS)
def test_every_form_in_a_mixed_batch_answers_as_pytorch_does_alone(
    zoo: tuple[str, Runtime, Reference], way: str
) -> None:
    """One to five layers, both directions, both orders of axes, with and without bias, dropout; y, h_n and c_n."""
    family, runtime, reference = zoo
    rows = rows_of(runtime, LENGTHS)
    states = 2 if "LSTM" in family else 1
    names = [f"{form}_{way}_{part}" for form, _, _ in forms(family) for part in "yhc"[: 1 + states]]

    for answer, expected in zip(runtime.answer(rows, dirty=True), reference.answers(rows), strict=True):
        for name in names:
            assert np.abs(expected[name]).max() > 1e-4
            np.testing.assert_allclose(answer[name], expected[name], rtol=2e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("lengths", [(1,), (1, 1), (3, 1), (40,), tuple(range(1, 34))])
def test_batch_and_time_are_free(zoo: tuple[str, Runtime, Reference], lengths: tuple[int, ...]) -> None:
    _, runtime, reference = zoo
    rows = rows_of(runtime, lengths)

    for answer, expected in zip(runtime.answer(rows, dirty=True), reference.answers(rows), strict=True):
        for name, array in expected.items():
            np.testing.assert_allclose(answer[name], array, rtol=2e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def all_causal() -> tuple[Runtime, Reference]:
    return exported(AllCausal, carry_state=True)


def test_causal_layers_of_every_family_carry_their_state_from_chunk_to_chunk(
    all_causal: tuple[Runtime, Reference],
) -> None:
    """With a projection, what is carried is the hidden state before it."""
    runtime, reference = all_causal
    rows = pool(noise(runtime.model), runtime.model.inputs)

    assert runtime.model.state is not None
    assert runtime.model.state.size == 2 * HIDDEN * (3 * 2 + 3)
    assert measure_chunks(runtime, rows).relative < 1e-6
    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 2e-6


IMAGES = f"x:float32[batch,time,{','.join(map(str, IMAGE))}]"


@pytest.mark.parametrize("lengths", [LENGTHS, (1,), (30, 2)])
def test_conv_lstm_is_a_scan_that_is_free_in_batch_and_time(
    weather: tuple[Runtime, Reference], lengths: tuple[int, ...]
) -> None:
    runtime, reference = weather

    assert "Scan" in {node.op_type for node in onnx.load_from_string(runtime.model.content).graph.node}
    assert worst_difference(runtime, reference, rows_of(runtime, lengths)) < 2e-6


@pytest.fixture(scope="module")
def weather() -> tuple[Runtime, Reference]:
    return exported(Weather, [IMAGES])


def test_conv_lstm_carries_its_state() -> None:
    runtime, reference = exported(CausalWeather, [IMAGES], carry_state=True)
    rows = rows_of(runtime, (4, 20, 1))

    assert runtime.model.state is not None
    assert runtime.model.state.size == 2 * 2 * 3 * 4 * 5
    assert measure_chunks(runtime, rows).relative < 1e-5
    assert worst_difference(runtime, reference, rows) < 2e-6


@pytest.mark.parametrize(
    ("factory", "inputs"),
    [
        (ResidualStack, None),
        (Acoustic, None),
        (Tagger, ["tokens:int64[batch,time]"]),
        (AttentionClassifier, None),
        (MaskedAttentionClassifier, None),
    ],
)
def test_models_with_these_layers_inside_are_right_in_any_company(
    factory: type[nn.Module], inputs: list[str] | None
) -> None:
    runtime, reference = exported(factory, inputs or [X])

    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 2e-6
    assert worst_difference(runtime, reference, rows_of(runtime, (1,))) < 2e-6
