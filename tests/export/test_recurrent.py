"""Recurrent layers in ONNX against PyTorch's."""

from functools import partial

import pytest

from export.errors import CarriedStateUnsupported, ExportError
from export.pytorch.reference import Reference
from export.runtime import Runtime
from tests.export.models import (
    DegenerateProjection,
    EncoderDecoder,
    FrozenBatch,
    Last,
    NoRecurrence,
    OwnLayers,
    ReadsPackedData,
)
from tests.export.support import X, exported, rows_of, worst_difference

LENGTHS = (4, 9, 1, 6)


@pytest.mark.parametrize("lengths", [(1,), (1, 1), (3, 1), (40,), tuple(range(1, 34))])
def test_batch_and_time_are_free(last: tuple[Runtime, Reference], lengths: tuple[int, ...]) -> None:
    runtime, reference = last

    assert worst_difference(runtime, reference, rows_of(runtime, lengths)) < 1e-6


def test_a_state_given_by_forward_is_wired_into_the_graph() -> None:
    """An encoder's last state starts the decoder, in a model of three inputs of which one does not follow time."""
    inputs = (X, "tokens:int64[batch,time]", "bias:float32[batch,5]")
    runtime, reference = exported(EncoderDecoder, inputs)

    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 1e-6
    with pytest.raises(CarriedStateUnsupported, match="decoder"):
        exported(EncoderDecoder, inputs, carry_state=True)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (NoRecurrence, "no recurrent layer"),
        (ReadsPackedData, "PackedSequence.data"),
    ],
)
def test_what_cannot_be_swapped_is_named(factory: type, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exported(factory)


def test_a_bidirectional_layer_cannot_carry_state() -> None:
    with pytest.raises(CarriedStateUnsupported, match="bidirectional"):
        exported(Last, carry_state=True)


def test_a_batch_size_made_a_number_is_refused_with_the_usual_causes() -> None:
    with pytest.raises(ExportError, match=r"cannot be traced with batch and time free.*len\(x\) for x\.shape\[0\]"):
        exported(FrozenBatch, carry_state=False)


def test_layers_of_the_user_s_own_making_are_taken_as_they_are() -> None:
    """A subclass with a forward of its own, weights by parametrization, a layer that runs twice."""
    runtime, reference = exported(OwnLayers)

    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 2e-6
    assert runtime.model.recurrent_nodes == ("scaled.layer0", "normed.layer0", "twice.layer0", "twice.layer0.3")
    with pytest.raises(CarriedStateUnsupported, match="scaled"):
        exported(OwnLayers, carry_state=True)


def test_a_projection_that_loses_a_dimension_cannot_start_from_a_given_state() -> None:
    """Without one it can: only then the state before the projection must be known."""
    runtime, reference = exported(DegenerateProjection)
    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 2e-6

    with pytest.raises(ExportError, match=r"layer 'lstm': forward gives it an initial state.*start it from zeros"):
        exported(partial(DegenerateProjection, given=True))
