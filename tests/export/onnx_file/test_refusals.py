"""Files that cannot be exported are refused with the reason, whatever is wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.errors import ExportError
from export.onnx_file import reading
from export.onnx_file.export_onnx import export_onnx
from export.onnx_file.opening import open_file
from export.spec import parse_input
from tests.export.onnx_file.handmade import FEATURES, HIDDEN, integers, node, save, weights
from tests.export.onnx_file.nets import FixedPosition
from tests.export.onnx_file.support import converted, seeded, traced
from tests.export.support import quiet_job

FREE = {"x": ("n", "t", FEATURES)}
TO_TIME_MAJOR = node("Transpose", "x", "xt", perm=[1, 0, 2])
LAST = [TO_TIME_MAJOR, node("LSTM", "xt W R", "- h", hidden_size=HIDDEN), node("Squeeze", "h zero", "last")]
LAST_OUT = {"last": (None, HIDDEN)}
CONSTANTS = weights() | {"zero": integers(0)}


def refuse(file: Path, reason: str, *inputs: str) -> None:
    with pytest.raises(ExportError, match=reason):
        open_file(file, tuple(map(parse_input, inputs)) or None)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "cannot be read")


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"PK\x03\x04 a zip", b"\x08\x07"])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)

    refuse(tmp_path / "m.onnx", "not an ONNX file")


def test_a_name_that_no_folder_may_have(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"name '\.\./m' is not of the form"):
        export_onnx(tmp_path / "m.onnx", name="../m", inputs=None, models=tmp_path, job=quiet_job()[0])


def test_more_than_one_message_can_hold(tmp_path: Path) -> None:
    """A sparse file: 3 GB long, nothing on the disk."""
    file = tmp_path / "m.onnx"
    with file.open("wb") as sparse:
        sparse.truncate(3 * 2**30)

    refuse(file, "3,221,225,472 bytes")


def test_no_recurrent_node(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", [node("Relu", "x", "last")], FREE, {"last": ("n", "t", FEATURES)}, {})

    refuse(file, r"no recurrent node \(LSTM, GRU, RNN\)")


def test_recurrent_nodes_inside_a_loop_only(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("LSTM", "inner W R", "- hb", hidden_size=HIDDEN), node("Identity", "condition", "go")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None, None, FEATURES]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None, None, FEATURES]),
        ],
    )
    nodes = [helper.make_node("Loop", ["count", "", "x"], ["last"], body=body, name="unrolled")]
    file = save(tmp_path / "m.onnx", nodes, FREE, {"last": (None, None, FEATURES)}, weights() | {"count": np.array(3)})

    refuse(file, r"only inside node 'unrolled' \(Loop\)")


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "FLOAT16"), (TensorProto.DOUBLE, "DOUBLE")])
def test_other_floats_than_single_ones(tmp_path: Path, kind: int, name: str) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    file = save(
        tmp_path / "m.onnx", LAST, FREE, LAST_OUT, weights(dtype=dtype) | {"zero": integers(0)},
        types={"x": kind, "last": kind},
    )  # fmt: skip

    refuse(file, f"input 'x' is {name}; expected FLOAT, INT32 or INT64")


def test_half_precision_inside(tmp_path: Path) -> None:
    nodes = [node("Cast", "x", "xh", to=TensorProto.FLOAT16), node("Transpose", "xh", "xt", perm=[1, 0, 2]), *LAST[1:]]
    nodes = [*nodes[:-1], node("Squeeze", "h zero", "lasth"), node("Cast", "lasth", "last", to=TensorProto.FLOAT)]
    file = save(tmp_path / "m.onnx", nodes, FREE, LAST_OUT, weights(dtype=np.float16) | {"zero": integers(0)})

    refuse(file, "computes in float16")


def test_an_int8_file(tmp_path: Path) -> None:
    nodes = [TO_TIME_MAJOR, helper.make_node("DynamicQuantizeLSTM", ["xt"], ["last"], domain="com.microsoft", name="q")]
    file = save(tmp_path / "m.onnx", nodes, FREE, LAST_OUT, {})
    model = onnx.load(file)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, file)

    refuse(file, "'q' .* is INT8 already; start from the float file")


def test_time_that_a_constant_binds(tmp_path: Path) -> None:
    file = traced(seeded(FixedPosition), tmp_path / "m.onnx", torch.zeros(1, 7, FEATURES), input_names=["x"])

    refuse(file, r"batch and time cannot be freed: node '/Add' \(Add\) fails.*\[1,7,3\]")


def test_several_axes_of_time(tmp_path: Path) -> None:
    nodes = [
        *LAST,
        node("Transpose", "z", "zt", perm=[1, 0, 2]),
        node("LSTM", "zt W R", "- g", hidden_size=HIDDEN),
        node("Squeeze", "g zero", "other"),
    ]
    inputs = {"x": ("n", "source", FEATURES), "z": ("n", "target", FEATURES)}
    file = save(tmp_path / "m.onnx", nodes, inputs, {**LAST_OUT, "other": (None, HIDDEN)}, CONSTANTS)

    refuse(file, r"several axes of time: \['source', 'target'\]")
    open_file(file, tuple(map(parse_input, (f"x:float32[batch,time,{FEATURES}]", f"z:float32[batch,time,{FEATURES}]"))))


def test_inputs_that_are_not_those_of_the_file(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", LAST, FREE, LAST_OUT, CONSTANTS)

    refuse(file, r"no input \['y'\]; its inputs are \['x:FLOAT\[n,t,3\]'\]", "y:float32[batch,time,3]")
    refuse(file, r"'x' is declared FP32\[batch,time,4\]; the file has x:FLOAT\[n,t,3\]", "x:float32[batch,time,4]")
    refuse(file, "'x' is declared INT64", "x:int64[batch,time,3]")
    refuse(file, "runs along the batch", "x:float32[time,batch,3]")


def test_an_input_that_was_left_out(tmp_path: Path) -> None:
    nodes = [*LAST[:2], node("Squeeze", "h zero", "plain"), node("Add", "plain bias", "last")]
    file = save(tmp_path / "m.onnx", nodes, {**FREE, "bias": ("n", HIDDEN)}, LAST_OUT, CONSTANTS)

    refuse(file, r"input bias:FLOAT\[n,5\] of the file is not declared", "x:float32[batch,time,3]")
    assert [item.axes for item in open_file(file, None).freed.plan] == [("batch", "time", 3), ("batch", HIDDEN)]


def test_an_answer_without_a_batch_names_the_node_that_lost_it(tmp_path: Path) -> None:
    nodes = [
        *LAST[:2],
        node("Squeeze", "h zero", "all"),
        node("ReduceMean", "all zero", "last", keepdims=0, name="mean"),
    ]
    file = save(tmp_path / "m.onnx", nodes, FREE, {"last": (HIDDEN,)}, CONSTANTS)

    refuse(file, r"output 'last' has the axes \[5\].*node 'mean' \(ReduceMean\) takes")


def test_a_constant_state_of_other_numbers_in_each_row(tmp_path: Path) -> None:
    nodes = [TO_TIME_MAJOR, node("LSTM", "xt W R - - h0", "- h", hidden_size=HIDDEN), LAST[2]]
    h0 = np.arange(2 * HIDDEN, dtype=np.float32).reshape(1, 2, HIDDEN)
    file = save(tmp_path / "m.onnx", nodes, {"x": (2, "t", FEATURES)}, LAST_OUT, CONSTANTS | {"h0": h0})

    refuse(file, "with other numbers in each row, so the batch cannot be freed")


def test_an_opset_that_cannot_be_converted(tmp_path: Path) -> None:
    nodes = [*LAST[:2], node("Squeeze", "h", "last", axes=[0])]
    file = save(tmp_path / "m.onnx", nodes, FREE, LAST_OUT, weights(), opset=5)

    refuse(file, f"opset 5.*{reading.OPSET}")


def test_a_number_that_would_fill_the_memory(tmp_path: Path) -> None:
    nodes = [
        TO_TIME_MAJOR,
        node("ConstantOfShape", "huge", "h0", name="zeros"),
        node("LSTM", "xt W R - - h0", "- h", hidden_size=HIDDEN),
        LAST[2],
    ]
    file = save(tmp_path / "m.onnx", nodes, FREE, LAST_OUT, CONSTANTS | {"huge": integers(1, 1, 2**40)})

    refuse(file, r"node 'zeros' \(ConstantOfShape\) makes 1,099,511,627,776 values")


def test_names_that_the_exporter_adds_itself(tmp_path: Path) -> None:
    nodes = [TO_TIME_MAJOR, LAST[1], node("Squeeze", "h zero", "state")]
    file = save(tmp_path / "m.onnx", nodes, FREE, {"state": (None, HIDDEN)}, CONSTANTS)

    with pytest.raises(ExportError, match=r"\['state'\] have names that occur twice or are among"):
        converted(file)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = save(tmp_path_factory.mktemp("sound") / "m.onnx", LAST, FREE, LAST_OUT, CONSTANTS)
    return file.read_bytes()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_an_error_and_never_a_crash(tmp_path: Path, sound: bytes, data: Any) -> None:
    """Cut anywhere, or with bytes changed; a change that does no harm may pass."""
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sound)))
    (tmp_path / "m.onnx").write_bytes(bytes(damaged[: cut if data.draw(st.booleans()) else len(sound)]))

    try:
        open_file(tmp_path / "m.onnx", None)
    except ExportError as error:
        assert str(error)  # noqa: PT017  either outcome is right, any other exception is not
