"""Reads of the last step by length, and outputs batch-first."""

import onnx
import pytest
from torch import nn

from export.errors import ExportError
from export.pytorch.reference import Reference
from export.runtime import Runtime
from tests.export.models import FixedBatch, Last, Squeezes, TimeMajor, TwoAxesOfTime
from tests.export.padding_models import line_of
from tests.export.support import X, exported, rows_of, worst_difference

LENGTHS = (4, 9, 1, 6)


def test_the_last_step_of_a_forward_without_lengths_is_the_last_real_one(
    last: tuple[Runtime, Reference],
) -> None:
    """`y[:, -1]` and `y[:, y.size(1) - 1]` of a bidirectional layer, with dirty padding."""
    runtime, reference = last

    assert reference.exported.reads_by_lengths == (line_of(Last.forward, "y[:, -1]"),) * 2
    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 1e-6


@pytest.fixture(scope="module")
def time_major() -> tuple[Runtime, Reference]:
    return exported(TimeMajor, ["x:float32[time,batch,3]"])


def test_a_time_major_model_is_batch_first_on_its_boundary(time_major: tuple[Runtime, Reference]) -> None:
    """Inputs and outputs [time, batch, ...] and h_n [layers, batch, hidden] all become batch-first, by symbol."""
    runtime, reference = time_major

    assert [(tensor.name, tensor.shape) for tensor in (*runtime.model.inputs, *runtime.model.outputs)] == [
        ("x", ("batch", "time", 3)),
        ("steps", ("batch", "time", 5)),
        ("last", ("batch", 5)),
        ("h", ("batch", 2, 5)),
        ("length", ("batch",)),
    ]
    assert worst_difference(runtime, reference, rows_of(runtime, LENGTHS)) < 1e-6
    assert _signature(runtime.model.content) == {
        "x": ["batch", "time", 3],
        "lengths": ["batch"],
        "steps": ["batch", "time", 5],
        "last": ["batch", 5],
        "h": ["batch", 2, 5],
        "length": ["batch"],
    }


def test_the_file_names_its_nodes_after_layers_and_holds_no_paths_of_its_maker(
    time_major: tuple[Runtime, Reference],
) -> None:
    runtime, _ = time_major
    graph = onnx.load_from_string(runtime.model.content).graph

    assert [node.name for node in graph.node if node.op_type == "LSTM"] == ["rnn.layer0", "rnn.layer1"]
    assert b"models.py" not in runtime.model.content


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (FixedBatch, "batch and time free"),
        (TwoAxesOfTime, r"output 'output' has the axes \['batch', 'time', 'time'\]"),
    ],
)
def test_what_has_no_form_on_the_wire_is_refused(factory: type[nn.Module], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exported(factory, [X])


def test_a_forward_that_squeezes_the_batch_of_one_row_is_told_so() -> None:
    runtime, reference = exported(Squeezes)

    with pytest.raises(ExportError, match="squeeze"):
        reference.answers(rows_of(runtime, (3,)))


def _signature(content: bytes) -> dict[str, list[str | int]]:
    graph = onnx.load_from_string(content).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
