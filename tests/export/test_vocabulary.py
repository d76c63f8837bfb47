"""The rows of the tables that token inputs index are found in the graph, and data beyond them are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.data import noise, read_data
from export.errors import ExportError
from export.model import OnnxModel
from export.vocabulary import with_vocabularies
from serving.manifest import Tensor
from tests.export.family_models import WORDS, Tagger, greedy_translator
from tests.export.support import exported

TOKENS = Tensor(name="tokens", datatype="INT64", shape=("batch", "time"))
INDEX = numpy_helper.from_array(np.array([-1], np.int64), "axis")


def _model(nodes: Sequence[onnx.NodeProto], *tables: tuple[str, tuple[int, ...]]) -> OnnxModel:
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in tables]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])],
        [helper.make_empty_tensor_value_info("y")],
        initializer=[*weights, INDEX],
    )
    content = helper.make_model(graph).SerializeToString()
    return OnnxModel(content=content, inputs=(TOKENS,), outputs=(), state=None, recurrent_nodes=())


def _gather(table: str, indices: str, output: str = "y", **attributes: int) -> onnx.NodeProto:
    return helper.make_node("Gather", [table, indices], [output], **attributes)


def test_an_exported_embedding_bounds_its_tokens() -> None:
    runtime, _ = exported(Tagger, ["tokens:int64[batch,time]"])

    assert [tensor.vocabulary for tensor in with_vocabularies(runtime.model)] == [WORDS]
    drawn = [row.inputs["tokens"] for row in noise(runtime.model).rows]
    assert {int(value) for row in drawn for value in row} == set(range(WORDS))


def test_a_decoder_in_a_loop_keeps_the_source_s_vocabulary() -> None:
    runtime, _ = exported(greedy_translator, ["source:int64[batch,time]"])

    assert [tensor.vocabulary for tensor in with_vocabularies(runtime.model)] == [WORDS]


@pytest.mark.parametrize(
    "passing",
    [
        helper.make_node("Cast", ["tokens"], ["moved"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["tokens", "axis"], ["moved"]),
        helper.make_node("Reshape", ["tokens", "axis"], ["moved"]),
        helper.make_node("Concat", ["axis", "tokens"], ["moved"], axis=0),
        helper.make_node("Where", ["mask", "axis", "tokens"], ["moved"]),
    ],
    ids=lambda node: node.op_type,
)
def test_tokens_are_followed_through_what_only_moves_them(passing: onnx.NodeProto) -> None:
    [tensor] = with_vocabularies(_model([passing, _gather("table", "moved")], ("table", (7, 3))))

    assert tensor.vocabulary == 7


def test_the_smallest_of_several_tables_counts_along_its_own_axis() -> None:
    nodes = [_gather("words", "tokens", "a"), _gather("letters", "tokens", axis=1)]

    [tensor] = with_vocabularies(_model(nodes, ("words", (90, 3)), ("letters", (30, 40))))

    assert tensor.vocabulary == 40


def test_arithmetic_and_other_tables_leave_tokens_free() -> None:
    shifted = helper.make_node("Add", ["tokens", "axis"], ["moved"])

    [tensor] = with_vocabularies(_model([shifted, _gather("table", "moved")], ("table", (7, 3))))

    assert tensor.vocabulary is None


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0, 7)])
def test_indices_beyond_the_table_are_refused(tmp_path: Path, low: int, high: int) -> None:
    np.savez(tmp_path / "data.npz", tokens=np.array([[low, high], [0, 1]]))

    with pytest.raises(ExportError, match=rf"'tokens' holds values from {low} to {high}; expected 0 to 6"):
        read_data(tmp_path / "data.npz", [TOKENS.model_copy(update={"vocabulary": 7})])


def test_what_lies_in_the_padding_is_not_looked_at(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", tokens=np.array([[0, -9], [6, 1]]), lengths=np.array([1, 2]))

    data = read_data(tmp_path / "data.npz", [TOKENS.model_copy(update={"vocabulary": 7})])

    assert sorted(row.steps for row in data.rows) == [1, 2]
