"""Graphs cut at their recurrent nodes: nothing changes but what INT8 costs, and what cannot be cut is named."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, helper, numpy_helper
from torch import nn

from export.data import noise, pool
from export.errors import ExportError
from export.model import OnnxModel
from export.modules import GreedyDecoder
from export.proving.accuracy import compare
from export.proving.cut import prove_cut
from export.proving.proofs import measure_chunks, measure_company
from export.runtime import Runtime
from export.smaller.native_cut import cut
from export.smaller.native_form import NativeForm
from export.smaller.quantize import recurrent_nodes
from serving.manifest import Tensor
from serving.plan import OnnxPart, RecurrentPart, ViewPart
from tests.export.families import FAMILIES, Zoo
from tests.export.family_models import (
    Acoustic,
    AllCausal,
    AttentionClassifier,
    MaskedAttentionClassifier,
    ResidualStack,
    Tagger,
)
from tests.export.onnx_file import handmade
from tests.export.support import exported, rows_of
from tests.export.test_quantize import _Decoder
from tests.support.native import needs_library

LENGTHS = (9, 1, 4, 9, 6, 2, 7)
RMS_LIMIT = 0.05
"""Relative RMS error of random layers of five units, five of them on each other."""
TOKENS = ["tokens:int64[batch,time]"]

pytestmark = needs_library


def native_of(runtime: Runtime) -> tuple[NativeForm, Runtime]:
    form = cut(runtime.model)
    return form, Runtime(runtime.model, session=form.session())


@pytest.fixture(scope="module", params=FAMILIES)
def zoo(request: pytest.FixtureRequest) -> Runtime:
    return exported(partial(Zoo, request.param))[0]


def test_all_forms_of_every_family_are_run_natively(zoo: Runtime) -> None:
    """One to five layers, both directions and orders of axes, packed or not, from zeros or a given state."""
    form, native = native_of(zoo)
    rows = rows_of(zoo, LENGTHS)

    proof = prove_cut(form, zoo, rows, equal_lengths=False)
    error = compare(zoo, native, rows).floats
    company = measure_company(native, rows, equal_lengths=False, batches=10)

    assert form.coverage.nodes == recurrent_nodes(zoo.model.content)
    assert {node.operator for node in form.coverage.left} <= {"MatMul"}  # of projections
    assert proof.passed
    assert error is not None
    assert 0 < error.rms_relative < RMS_LIMIT
    assert company.max_abs == 0 or form.coverage.left
    assert company.relative < 1e-5


@pytest.mark.parametrize(
    ("make", "inputs", "left"),
    [
        (ResidualStack, None, {"MatMul"}),
        (Acoustic, None, {"Conv", "MatMul", "Gemm"}),
        (Tagger, TOKENS, {"Gather", "MatMul", "Gemm"}),
        (AttentionClassifier, None, {"MatMul", "Gemm"}),
        (MaskedAttentionClassifier, None, {"MatMul", "Gemm"}),
    ],
)
def test_what_lies_around_the_layers_stays_with_onnxruntime(
    make: type[nn.Module], inputs: list[str] | None, left: set[str]
) -> None:
    runtime, _ = exported(make, *([] if inputs is None else [inputs]))
    form, native = native_of(runtime)
    rows = rows_of(runtime, LENGTHS)

    proof = prove_cut(form, runtime, rows, equal_lengths=False)
    error = compare(runtime, native, rows).floats
    company = measure_company(native, rows, equal_lengths=False, batches=10)

    assert any(isinstance(part, OnnxPart) for part in form.plan.parts)
    assert {node.operator for node in form.coverage.left} <= left
    assert all("keeps all but recurrent layers float" in node.reason for node in form.coverage.left)
    assert proof.passed
    assert error is not None
    assert error.rms_relative < RMS_LIMIT
    assert company.relative < 1e-5


@pytest.fixture(scope="module")
def all_causal() -> Runtime:
    return exported(AllCausal, carry_state=True)[0]


def test_a_carried_state_goes_through_the_parts(all_causal: Runtime) -> None:
    """Bit for bit through layers; the product of a projected one is onnxruntime's, whose last bit may differ."""
    runtime = all_causal
    form, native = native_of(runtime)

    proof = prove_cut(form, runtime, rows_of(runtime, LENGTHS), equal_lengths=False)

    assert proof.passed
    difference = measure_chunks(native, pool(noise(runtime.model), runtime.model.inputs))
    assert difference.relative < 1e-6


def test_the_encoder_of_a_decoder_in_a_loop_is_run_natively() -> None:
    """The decoder's steps stay in the body of an ONNX Loop, whose inner nodes read tensors from outside."""
    runtime, _ = exported(partial(GreedyDecoder, _Decoder(), start=0, end=1, limit=4), ["source:int64[batch,time]"])

    form = cut(runtime.model)

    assert form.coverage.nodes == ("model.encoder.layer0",)
    assert prove_cut(form, runtime, rows_of(runtime, (5, 3, 1)), equal_lengths=False).passed


def test_a_layer_in_the_branch_of_an_if_stays_with_onnxruntime_and_says_so(tmp_path: Path) -> None:
    layer = handmade.node("LSTM", "xt W R", "inner", hidden_size=handmade.HIDDEN)
    layer.name = "in the branch"
    branch = helper.make_graph([layer], "branch", [], [helper.make_tensor_value_info("inner", 1, None)])
    either = handmade.node("If", "condition", "y", then_branch=branch, else_branch=branch)

    with pytest.raises(ExportError, match=r"'in the branch' .* inside a Loop, Scan or If"):
        cut(model_of(tmp_path, either, condition=np.array(True)))


@pytest.fixture(scope="module")
def stack() -> Runtime:
    return exported(ResidualStack)[0]


def test_a_cut_that_changes_a_result_is_refused_with_the_node_s_name(all_causal: Runtime) -> None:
    form = cut(all_causal.model)
    answers = {tensor.name for tensor in all_causal.model.outputs}
    index, view = next(
        (index, part)
        for index, part in enumerate(form.plan.parts)
        if isinstance(part, ViewPart) and part.operator == "Transpose" and part.output in answers
    )
    wrong = view.model_copy(update={"axes": (0, 1, 2)})
    plan = form.plan.model_copy(update={"parts": (*form.plan.parts[:index], wrong, *form.plan.parts[index + 1 :])})
    graph = onnx.load_from_string(all_causal.model.content).graph
    (name,) = (node.name for node in graph.node if view.output in node.output)

    with pytest.raises(ExportError, match=rf"changes the result of node '{name}': '{view.output}' differs by inf"):
        prove_cut(replace(form, plan=plan), all_causal, rows_of(all_causal, LENGTHS), equal_lengths=False)


def test_weights_in_the_wrong_order_change_the_result_of_their_node(stack: Runtime) -> None:
    form = cut(stack.model)
    *_, last = (part for part in form.plan.parts if isinstance(part, RecurrentPart))
    proto = onnx.load_from_string(form.floats[last.node])
    w = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 3)
    w.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w)[:, ::-1].copy(), w.name))
    floats = {**form.floats, last.node: proto.SerializeToString()}

    with pytest.raises(ExportError, match=f"changes the result of node '{last.node}'"):
        prove_cut(replace(form, floats=floats), stack, rows_of(stack, LENGTHS), equal_lengths=False)


def model_of(path: Path, *nodes: NodeProto, op: str = "LSTM", **constants: object) -> OnnxModel:
    """Return a model of one layer on [batch, time, features], and whatever nodes follow it."""
    outputs = {"y": ("t", 1, "n", handmade.HIDDEN)}
    file = handmade.save(
        path / "m.onnx", [handmade.TO_TIME_MAJOR, *nodes], handmade.FREE, outputs, handmade.weights(op) | constants
    )
    x = Tensor(name="x", datatype="FP32", shape=("batch", "time", handmade.FEATURES))
    return OnnxModel(content=file.read_bytes(), inputs=(x,), outputs=(), state=None, recurrent_nodes=())


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "its activations are HardSigmoid, Tanh, Tanh"),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}, "its activations are Sigmoid, Relu"),
        ("LSTM", {"clip": 3.0}, "the native engine has no 'clip'"),
        ("LSTM", {"input_forget": 1}, "the native engine has no 'input_forget'"),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [2.0]}, "its activations are Affine"),
    ],
)
def test_a_node_that_the_native_engine_cannot_run_says_why(
    tmp_path: Path, op: str, attributes: dict[str, object], reason: str
) -> None:
    layer = handmade.node(op, "xt W R", "y", hidden_size=handmade.HIDDEN, **attributes)
    layer.name = "the layer"

    with pytest.raises(ExportError, match=rf"'the layer' \({op}, [\d,]+ bytes\): {reason}"):
        cut(model_of(tmp_path, layer, op=op))


def test_an_unsupported_layer_stays_float_between_native_ones(tmp_path: Path) -> None:
    hidden = handmade.HIDDEN
    names = ["first", "clipped", "last"]
    layers = [
        handmade.node("LSTM", "xt W R", "y1", hidden_size=hidden),
        handmade.node("Squeeze", "y1 one", "x2"),
        handmade.node("LSTM", "x2 R R", "y2", hidden_size=hidden, clip=0.5),
        handmade.node("Squeeze", "y2 one", "x3"),
        handmade.node("LSTM", "x3 R R", "y", hidden_size=hidden),
    ]
    for layer, name in zip(layers[::2], names, strict=True):
        layer.name = name
    model = model_of(tmp_path, *layers, one=handmade.integers(1))
    x = np.random.default_rng(1).normal(size=(3, 8, handmade.FEATURES)).astype(np.float32)

    form = cut(model)
    (y,) = form.session().run(["y"], {"x": x})

    assert form.coverage.nodes == ("first", "last")
    assert [(node.name, node.reason) for node in form.coverage.left] == [("clipped", "the native engine has no 'clip'")]
    assert [part.kind for part in form.plan.parts] == ["view", "recurrent", "view", "onnx", "view", "recurrent"]
    (expected,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(["y"], {"x": x})
    np.testing.assert_allclose(y, expected, atol=0.03)


def test_weights_that_are_computed_are_named(tmp_path: Path) -> None:
    twice = handmade.node("Add", "R R", "R2")
    layer = handmade.node("LSTM", "xt W R2", "y", hidden_size=handmade.HIDDEN)

    with pytest.raises(ExportError, match="its recurrent weights are computed in the graph"):
        cut(model_of(tmp_path, twice, layer))


def test_a_graph_without_recurrent_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the model has no recurrent layer"):
        cut(model_of(tmp_path, handmade.node("Unsqueeze", "xt one", "y"), one=handmade.integers(1)))
