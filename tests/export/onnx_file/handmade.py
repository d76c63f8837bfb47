"""ONNX files put together by hand, as converters of other frameworks write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.onnx_file.reading import read_model, runnable
from export.runtime import Array, Row

FEATURES = 3
HIDDEN = 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Shape = Sequence[int | str | None]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """Return a node; names are separated by spaces, `-` stands for an input or output left out."""
    given, made = ([name.replace("-", "") for name in side.split()] for side in (inputs, outputs))
    return helper.make_node(op, given, made, **attributes)


def weights(
    op: str = "LSTM", *, directions: int = 1, features: int = FEATURES, dtype: Any = np.float32
) -> dict[str, Array]:
    """Return seeded W and R of a recurrent node."""
    rng = np.random.default_rng(0)
    shapes = {"W": (directions, GATES[op] * HIDDEN, features), "R": (directions, GATES[op] * HIDDEN, HIDDEN)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    constants: Mapping[str, Any],
    *,
    opset: int = 20,
    types: Mapping[str, int] | None = None,
) -> Path:
    """Write a file; inputs and outputs are float32 unless `types` says otherwise."""
    given = types or {}
    sides = [
        [helper.make_tensor_value_info(name, given.get(name, TensorProto.FLOAT), shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "handmade", sides[0], sides[1], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def integers(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


LIMIT = 1e-5
X = {"x": (1, 7, FEATURES)}
FREE = {"x": ("n", "t", FEATURES)}
TO_TIME_MAJOR = node("Transpose", "x", "xt", perm=[1, 0, 2])


def by_file(file: Path, *, time_major: bool = False) -> Any:
    """Return how a file that is free in time answers a row alone."""
    session = onnxruntime.InferenceSession(runnable(read_model(file)).SerializeToString())

    def answer(row: Row) -> Mapping[str, Array]:
        x = row.inputs["x"][:, None] if time_major else row.inputs["x"][None]
        names = [output.name for output in session.get_outputs()]
        return {name: array[0] for name, array in zip(names, session.run(names, {"x": x}), strict=True)}

    return answer
