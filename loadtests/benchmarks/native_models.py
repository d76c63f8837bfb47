"""Random recurrent layers as each engine takes them, all of the same weights, and the batches that they run on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.model import OnnxModel
from export.runtime import Runtime
from export.smaller.quantize import quantize_if_possible
from loadtests.benchmarks.int8_models import FEATURES, LAYERS, SEED
from serving.engine.native.library import RecurrentLayer, Weights
from serving.engine.native.weights import GATES, FloatLayer, pack

STEPS = 60
OPSET, IR_VERSION = 17, 9

Floats = NDArray[np.float32]
Lengths = NDArray[np.int32]
States = list[tuple[Floats, Floats]]
"""Of each layer, y_h and y_c: float32[1, batch, hidden]; a GRU's y_c is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Two recurrent layers of one direction, one on top of the other, and nothing else."""

    operator: Literal["LSTM", "GRU"] = "LSTM"
    hidden: int

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.operator} {LAYERS}x{self.hidden}"

    @property
    def multiply_adds(self) -> int:
        """Of one step of one row, those of its matrices."""
        return GATES[self.operator] * self.hidden * (FEATURES + (2 * LAYERS - 1) * self.hidden)

    def float_layers(self) -> list[FloatLayer]:
        """Return weights drawn as torch draws its initial ones, seeded."""
        random, rows = np.random.default_rng(SEED), GATES[self.operator] * self.hidden

        def draw(*shape: int) -> Floats:
            limit = self.hidden**-0.5
            return random.uniform(-limit, limit, shape).astype(np.float32)

        return [
            FloatLayer(
                operator=self.operator,
                direction="forward",
                w=draw(1, rows, self.hidden if above else FEATURES),
                r=draw(1, rows, self.hidden),
                b=draw(1, 2 * rows),
                linear_before_reset=self.operator == "GRU",
            )
            for above in range(LAYERS)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of seeded normal noise.

    Attributes:
        mixed: lengths are spread evenly from 1 to `STEPS`, in seeded order; else all are `STEPS`.
    """

    rows: int
    mixed: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.rows} mixed" if self.mixed else str(self.rows)

    @property
    def x(self) -> Floats:
        """float32[STEPS, rows, FEATURES]."""
        return np.random.default_rng(SEED).normal(size=(STEPS, self.rows, FEATURES)).astype(np.float32)

    @property
    def lengths(self) -> Lengths:
        """int32[rows]."""
        if not self.mixed:
            return np.full(self.rows, STEPS, np.int32)
        lengths = np.linspace(1, STEPS, self.rows).round().astype(np.int32)
        return np.random.default_rng(SEED).permutation(lengths)


class NativeLayers:
    """The layers of a weights' file, one after the other, in the native engine."""

    def __init__(self, weights: Weights, *, threads: int) -> None:
        self._layers = [RecurrentLayer(weights, index, threads=threads) for index in range(weights.layers)]

    def run(self, x: Floats, lengths: Lengths | None = None, states: States | None = None) -> tuple[Floats, States]:
        """Return the last layer's float32[time, batch, hidden] of x float32[time, batch, features], and all states.

        Args:
            x: any strides.
            lengths: int32[batch]; None if all rows have `time` steps.
            states: to go on from; None for zeros.
        """
        after: States = []
        for index, layer in enumerate(self._layers):
            h, c = states[index] if states else (None, None)
            y, y_h, y_c = layer.run(x, lengths, h, c if c is not None and c.size else None)
            x = y[:, 0]
            after.append((y_h, y_c))
        return x, after


class Engines:
    """A stack, loaded into each engine, one thread each.

    Attributes:
        stack: its layers.
        weights: of the native engine.
        native: the native engine.
        onnxruntime: its forms by "fp32" and "int8", the exporter's; there is no INT8 form of a GRU.
    """

    def __init__(self, stack: Stack) -> None:
        """Make the forms and load them.

        Raises:
            ExportError: onnxruntime cannot load or quantize the graph.
            EngineUnavailable: the native library was not built.
        """
        layers = stack.float_layers()
        model = _model(stack, layers)
        with tempfile.TemporaryDirectory() as directory:  # what is mapped stays mapped when its name is gone
            path = Path(directory) / "weights.bin"
            path.write_bytes(pack(layers))
            self.weights = Weights(path)
        self.stack = stack
        self.native = NativeLayers(self.weights, threads=1)
        self.onnxruntime = {"fp32": Runtime(model)}
        quantized = quantize_if_possible(model)
        if quantized.coverage.nodes:
            self.onnxruntime["int8"] = Runtime(quantized.model)


def feed_of(x: Floats, lengths: Lengths) -> dict[str, NDArray[Any]]:
    """Return what onnxruntime's forms take; their one output is `y`."""
    return {"x": x, "lengths": lengths}


def _model(stack: Stack, layers: list[FloatLayer]) -> OnnxModel:
    """Return the layers as an ONNX graph of x float32[time, batch, features] and lengths int32[batch]."""
    constants, nodes, x = [numpy_helper.from_array(np.array([1]), "directions")], [], "x"
    attributes: dict[str, Any] = {"hidden_size": stack.hidden} | (
        {"linear_before_reset": 1} if stack.operator == "GRU" else {}
    )
    for number, layer in enumerate(layers):
        names = [f"{name}{number}" for name in ("w", "r", "b")]
        constants += [
            numpy_helper.from_array(array, name)
            for array, name in zip((layer.w, layer.r, layer.b), names, strict=True)
            if array is not None
        ]
        made, y = f"made{number}", "y" if layer is layers[-1] else f"y{number}"
        nodes.append(
            helper.make_node(stack.operator, [x, *names, "lengths"], [made], name=f"layer{number}", **attributes)
        )
        nodes.append(helper.make_node("Squeeze", [made, "directions"], [y]))
        x = y
    graph = helper.make_graph(
        nodes,
        "stack",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", FEATURES]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", "batch", stack.hidden])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return OnnxModel(
        content=proto.SerializeToString(),
        inputs=(),
        outputs=(),
        state=None,
        recurrent_nodes=tuple(node.name for node in nodes if node.op_type == stack.operator),
    )
