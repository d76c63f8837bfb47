"""A plan's parts in a row: what they compute together, and that nothing else is kept, copied or run."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.engine.native.session import NativeSession
from serving.engine.native.views import view_of
from serving.engine.native.weights import FloatLayer, pack
from serving.errors import ArtifactError
from serving.manifest import read_manifest
from serving.plan import NATIVE_DIRECTORY, WEIGHTS_FILE, OnnxPart, Plan, RecurrentPart, ViewPart
from serving.tensors import Array
from tests.support.artefacts import FEATURES, HIDDEN
from tests.support.native import needs_library, plan_file, write_native

INT8_TOLERANCE = 0.02
"""Of hidden values within -1 and 1: some ten times what 7-bit weights and 8-bit activations cost this model."""


def plan_of(directory: Path) -> Plan:
    plan = read_manifest(directory).native
    assert plan is not None
    return plan


def session_of(directory: Path, *, threads: int = 1) -> NativeSession:
    return NativeSession(directory / NATIVE_DIRECTORY, plan_of(directory), threads=threads)


def feed_of(lengths: list[int], *, stepwise: bool, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    feed: dict[str, Array] = {
        "x": rng.normal(size=(len(lengths), max(lengths), FEATURES)).astype(np.float32),
        "lengths": np.array(lengths, np.int64),
    }
    if stepwise:
        feed["state"] = rng.uniform(-0.5, 0.5, (len(lengths), 2 * HIDDEN)).astype(np.float32)
    return feed


@needs_library
@pytest.mark.parametrize("stepwise", [False, True])
def test_the_parts_compute_what_the_whole_graph_does(tmp_path: Path, *, stepwise: bool) -> None:
    directory = write_native(tmp_path, stepwise=stepwise)
    names = ["last", "steps", *(["next_state"] if stepwise else [])]
    feed = feed_of([9, 3, 1, 5], stepwise=stepwise)

    found = session_of(directory).run(names, feed)

    expected = onnxruntime.InferenceSession(directory / "model.onnx").run(names, feed)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=INT8_TOLERANCE)


@needs_library
def test_a_sequence_in_chunks_with_carried_state_has_the_answers_of_one_run_bit_for_bit(tmp_path: Path) -> None:
    session = session_of(write_native(tmp_path, stepwise=True))
    whole = feed_of([7], stepwise=True)
    names = ["steps", "last", "next_state"]

    state, pieces = whole["state"], []
    for start, stop in ((0, 2), (2, 3), (3, 7)):
        chunk = {"x": whole["x"][:, start:stop], "lengths": np.array([stop - start]), "state": state}
        steps, last, state = session.run(names, chunk)
        pieces.append(steps)

    expected = session.run(names, whole)
    for one, other in zip((np.concatenate(pieces, axis=1), last, state), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_library
def test_calls_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    session = session_of(write_native(tmp_path, stepwise=True), threads=2)
    feeds = [feed_of([steps, 40], stepwise=True, seed=steps) for steps in range(1, 21)]
    names = ["steps", "next_state"]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda feed: session.run(names, feed), feeds))

    for feed, answer in zip(feeds, together, strict=True):
        for one, other in zip(answer, session.run(names, feed), strict=True):
            np.testing.assert_array_equal(one, other)


@needs_library
def test_only_what_was_asked_for_is_computed(tmp_path: Path) -> None:
    """NaN in a row ends every run that comes to a recurrent layer, and the message names the row."""
    session = session_of(write_native(tmp_path))
    feed = feed_of([4, 6], stepwise=False)
    feed["x"][1, 2, 0] = np.nan

    (transposed,) = session.run(["x_time_major"], feed)

    assert np.shares_memory(transposed, feed["x"])
    with pytest.raises(FloatingPointError, match="row 1"):
        session.run(["last"], feed)


@needs_library
def test_without_names_all_that_is_made_is_answered(tmp_path: Path) -> None:
    session = session_of(write_native(tmp_path))

    answers = session.run(None, feed_of([4, 6], stepwise=False))

    names = [node.name for node in session.get_outputs()]
    assert names == ["x_time_major", "Y", "Y_h", "Y_batch_major", "steps", "h_batch_major", "last"]
    assert [answer.shape for answer in answers][-1] == (2, 2 * HIDDEN)
    assert len(answers) == len(names)
    assert [node.name for node in session.get_inputs()] == ["x", "lengths"]


@needs_library
def test_a_feed_or_a_name_that_does_not_fit_is_told(tmp_path: Path) -> None:
    session = session_of(write_native(tmp_path))
    feed = feed_of([4], stepwise=False)

    with pytest.raises(ValueError, match=r"the feed has \['x'\], inputs \['lengths'\] are missing"):
        session.run(["last"], {"x": feed["x"]})
    with pytest.raises(ValueError, match=r"no part makes \['nothing'\]"):
        session.run(["nothing", "last"], feed)
    with pytest.raises(ValueError, match="float32"):
        session.run(["last"], feed | {"x": feed["x"][:, :, :2]})


@needs_library
def test_a_tensor_is_dropped_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    """Of seven layers above each other, no more than three outputs are ever in memory at once."""
    layers, hidden, rows, steps = 7, 32, 16, 100
    rng = np.random.default_rng(0)
    w, r = (rng.normal(0, 0.1, (1, hidden, hidden)).astype(np.float32) for _ in range(2))
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(pack([FloatLayer(operator="RNN", direction="forward", w=w, r=r)]))
    parts: list[RecurrentPart | ViewPart] = []
    for n in range(layers):
        parts.append(RecurrentPart(node=f"rnn{n}", operator="RNN", layer=0, x=f"x{n}", y=f"y{n}"))
        parts.append(ViewPart(operator="Squeeze", input=f"y{n}", output=f"x{n + 1}", axes=(1,)))
    session = NativeSession(tmp_path, Plan(weights=plan_file(weights), parts=tuple(parts)), threads=1)
    feed = {"x0": rng.normal(size=(steps, rows, hidden)).astype(np.float32)}
    session.run([f"x{layers}"], feed)

    tracemalloc.start()
    session.run([f"x{layers}"], feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert feed["x0"].nbytes < peak < 3 * feed["x0"].nbytes


@needs_library
def test_a_part_that_is_not_what_the_plan_says_is_refused(tmp_path: Path) -> None:
    directory = write_native(tmp_path, stepwise=True)
    plan, native = plan_of(directory), directory / NATIVE_DIRECTORY
    first, second = (part for part in plan.parts if isinstance(part, OnnxPart))
    (recurrent,) = (part for part in plan.parts if isinstance(part, RecurrentPart))

    def changed(old: OnnxPart | RecurrentPart, **changes: object) -> Plan:
        parts = tuple(part.model_copy(update=changes) if part is old else part for part in plan.parts)
        return plan.model_copy(update={"parts": parts})

    with pytest.raises(
        ArtifactError, match=r"part-1\.onnx: its inputs are \['Y_c', 'Y_h'\], the plan says \['state'\]"
    ):
        NativeSession(native, changed(first, file=second.file), threads=1)
    with pytest.raises(ArtifactError, match=r"part-0\.onnx: its outputs are .*the plan says \['initial_h'\]"):
        NativeSession(native, changed(first, outputs=("initial_h",)), threads=1)
    with pytest.raises(ArtifactError, match="layer 0 of the weights is no GRU, as the plan's 'lstm' is"):
        NativeSession(native, changed(recurrent, operator="GRU"), threads=1)
    with pytest.raises(ArtifactError, match="asks for layer 1"):
        NativeSession(native, changed(recurrent, layer=1), threads=1)
    (native / "part-0.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match=r"part-0\.onnx: onnxruntime cannot load it"):
        NativeSession(native, plan, threads=1)


@pytest.mark.parametrize(
    ("operator", "shape", "axes"),
    [
        ("Transpose", (2, 3, 4), (1, 0, 2)),
        ("Transpose", (2, 3, 4), ()),
        ("Squeeze", (2, 1, 3, 1), (1,)),
        ("Squeeze", (2, 1, 3, 1), (-1, 1)),
        ("Squeeze", (2, 1, 3, 1), ()),
        ("Unsqueeze", (2, 3), (0, 2)),
        ("Unsqueeze", (2, 3), (-1,)),
        ("Reshape", (2, 3, 2, 4), (0, 0, -1)),
        ("Reshape", (2, 6), (0, -1, 2)),
        ("Reshape", (2, 6), (3, 4)),
        ("Identity", (2, 3), ()),
    ],
)
def test_views_are_onnx_operators_that_touch_no_value(
    operator: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    part = ViewPart.model_validate({"operator": operator, "input": "x", "output": "y", "axes": axes})

    found = view_of(part)(x)

    np.testing.assert_array_equal(found, by_onnxruntime(operator, x, axes), strict=True)
    assert np.shares_memory(found, x)


def by_onnxruntime(operator: str, x: Array, axes: tuple[int, ...]) -> Array:
    """Run the operator alone."""
    permutes = {"perm": axes} if operator == "Transpose" and axes else {}
    constant = [] if operator in {"Transpose", "Identity"} or not axes else ["axes"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constant], ["y"], **permutes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(np.array(axes, np.int64), "axes")] if constant else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    return np.asarray(y)


def test_a_reshape_of_a_transposed_tensor_is_right_though_it_takes_a_copy() -> None:
    x = np.arange(6).reshape(2, 3).T
    part = ViewPart(operator="Reshape", input="x", output="y", axes=(-1,))

    assert view_of(part)(x).tolist() == [0, 3, 1, 4, 2, 5]


def test_a_slice_takes_places_of_an_axis_and_nothing_is_copied() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    part = ViewPart(operator="Slice", input="x", output="y", axes=(1, 1, 3))

    found = view_of(part)(x)

    np.testing.assert_array_equal(found, x[:, 1:3])
    assert np.shares_memory(found, x)


def test_a_view_of_a_shape_that_does_not_fit_is_a_value_error() -> None:
    for operator, axes in itertools.product(["Squeeze", "Transpose", "Reshape"], [(1,)]):
        part = ViewPart.model_validate({"operator": operator, "input": "x", "output": "y", "axes": axes})
        with pytest.raises(ValueError, match=r"axe|size|axis"):
            view_of(part)(np.zeros((2, 3)))
