"""Tiny but real model folders, built with onnx alone: random LSTMs with the server's whole contract, in milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.manifest import CtcDecoding, Int8, Manifest, ModelFile, State, Tensor, sha256_of

FEATURES = 3
HIDDEN = 4
SYMBOLS = ("a", "b", "<blank>", "é", "<space>")
"""Of the CTC model; the blank is neither first nor last, and one symbol has several characters."""
BLANK = 2
TYPES = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64}


def write_lstm(
    repository: Path,
    name: str = "lstm",
    version: int = 1,
    *,
    bidirectional: bool = True,
    stepwise: bool = False,
    int8_range: tuple[float, float] | None = None,
    equal_lengths: bool = False,
    half: bool = False,
    hidden: int = HIDDEN,
    seed: int = 0,
) -> Path:
    """Write a model x[batch,time,3] -> steps[batch,time,D*hidden], last[batch,D*hidden] into `repository/name/version`.

    With `int8_range` the manifest calls it INT8 with that calibrated input range (the graph stays FP32). With `half` the
    LSTM computes in half precision between two casts.
    """
    directions = 2 if bidirectional else 1
    nodes, weights = _lstm_nodes(directions, hidden, stepwise=stepwise, seed=seed)
    if half:
        nodes, weights = _halved(nodes, weights)
    width = directions * hidden
    inputs = (Tensor(name="x", datatype="FP32", shape=("batch", "time", FEATURES)),)
    outputs = (
        Tensor(name="steps", datatype="FP32", shape=("batch", "time", width)),
        Tensor(name="last", datatype="FP32", shape=("batch", width)),
    )
    state = State(input="state", output="next_state", size=2 * hidden) if stepwise else None
    return write_artefact(
        repository / name / str(version),
        nodes,
        weights,
        inputs=inputs,
        outputs=outputs,
        state=state,
        int8_range=int8_range,
        equal_lengths=equal_lengths,
        half=half,
    )


def write_ctc(repository: Path, name: str = "ctc", *, beam_width: int = 16) -> Path:
    """Write a model x[batch,time,3] -> log_probs[batch,time,5] with the decodings `text` (greedy) and `text_beam`."""
    nodes, weights = _lstm_nodes(1, HIDDEN, stepwise=False, seed=0)
    head = np.random.default_rng(5).normal(0, 4, (HIDDEN, len(SYMBOLS))).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head"))
    nodes[-2:] = [
        helper.make_node("MatMul", ["steps", "head"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"], axis=2),
    ]
    source = Tensor(name="log_probs", datatype="FP32", shape=("batch", "time", len(SYMBOLS)))
    return write_artefact(
        repository / name / "1",
        nodes,
        weights,
        inputs=(Tensor(name="x", datatype="FP32", shape=("batch", "time", FEATURES)),),
        outputs=(source,),
        decodings=(
            CtcDecoding(name="text", source="log_probs", method="greedy", symbols=SYMBOLS, blank=BLANK),
            CtcDecoding(
                name="text_beam",
                source="log_probs",
                method="beam",
                symbols=SYMBOLS,
                blank=BLANK,
                beam_width=beam_width,
            ),
        ),
    )


def write_two_inputs(repository: Path, name: str = "two", *, vocabulary: int | None = None) -> Path:
    """Write a model of an int64 sequence, a float sequence and one float vector per row: y = tokens + x + bias.

    With `vocabulary` the manifest bounds the tokens (the graph would take any).
    """
    nodes = [
        helper.make_node("Cast", ["tokens"], ["tokens_float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["tokens_float", "last_axis"], ["tokens_column"]),
        helper.make_node("Add", ["tokens_column", "x"], ["sum"]),
        helper.make_node("Unsqueeze", ["bias", "time_axis"], ["bias_column"]),
        helper.make_node("Add", ["sum", "bias_column"], ["y"]),
        helper.make_node("Identity", ["lengths"], ["count"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([2], np.int64), "last_axis"),
        numpy_helper.from_array(np.array([1], np.int64), "time_axis"),
    ]
    return write_artefact(
        repository / name / "1",
        nodes,
        weights,
        inputs=(
            Tensor(name="tokens", datatype="INT64", shape=("batch", "time"), vocabulary=vocabulary),
            Tensor(name="x", datatype="FP32", shape=("batch", "time", FEATURES)),
            Tensor(name="bias", datatype="FP32", shape=("batch", FEATURES)),
        ),
        outputs=(
            Tensor(name="y", datatype="FP32", shape=("batch", "time", FEATURES)),
            Tensor(name="count", datatype="INT64", shape=("batch",)),
        ),
    )


def write_lookup(repository: Path, name: str = "lookup") -> Path:
    """Write a model that looks tokens[batch,time] up in a table of four rows, and raises at any other token."""
    table = np.arange(4 * FEATURES, dtype=np.float32).reshape(4, FEATURES)
    return write_artefact(
        repository / name / "1",
        [
            helper.make_node("Gather", ["table", "tokens"], ["y"]),
            helper.make_node("Identity", ["lengths"], ["count"]),
        ],
        [numpy_helper.from_array(table, "table")],
        inputs=(Tensor(name="tokens", datatype="INT64", shape=("batch", "time")),),
        outputs=(
            Tensor(name="y", datatype="FP32", shape=("batch", "time", FEATURES)),
            Tensor(name="count", datatype="INT64", shape=("batch",)),
        ),
    )


def write_artefact(
    directory: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    *,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    state: State | None = None,
    int8_range: tuple[float, float] | None = None,
    equal_lengths: bool = False,
    half: bool = False,
    decodings: tuple[CtcDecoding, ...] = (),
) -> Path:
    """Write `model.onnx` and its manifest."""
    sides = ([_value_info(t) for t in inputs], [_value_info(t) for t in outputs])
    sides[0].append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]))
    if state is not None:
        sides[0].append(helper.make_tensor_value_info(state.input, TensorProto.FLOAT, ["batch", state.size]))
        sides[1].append(helper.make_tensor_value_info(state.output, TensorProto.FLOAT, ["batch", state.size]))
    graph = helper.make_graph(nodes, "test", *sides, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    directory.mkdir(parents=True)
    path = directory / "model.onnx"
    onnx.save(model, path)
    Manifest(
        name=directory.parent.name,
        version=int(directory.name),
        precision="fp16" if half else "fp32" if int8_range is None else "int8",
        inputs=inputs,
        lengths_input="lengths",
        outputs=outputs,
        stepwise=state is not None,
        state=state,
        equal_lengths=equal_lengths,
        input_range={} if int8_range is None else {"x": int8_range},
        int8=None
        if int8_range is None
        else Int8(
            engine="onnxruntime", per_channel=True, reduce_range=True, quantized_nodes=("lstm",), source_version=1
        ),
        decodings=decodings,
        file=ModelFile(sha256=sha256_of(path), bytes=path.stat().st_size),
        proofs=(),
        tools={},
        created="2026-01-01T00:00:00Z",
    ).write(directory)
    return directory


def _lstm_nodes(
    directions: int, hidden: int, *, stepwise: bool, seed: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)
        for name, shape in (
            ("W", (directions, 4 * hidden, FEATURES)),
            ("R", (directions, 4 * hidden, hidden)),
            ("B", (directions, 8 * hidden)),
        )
    ]
    weights.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat_steps"))
    weights.append(numpy_helper.from_array(np.array([0, -1], np.int64), "flat"))
    initial = ["initial_h", "initial_c"] if stepwise else ["", ""]
    nodes = [
        helper.make_node("Cast", ["lengths"], ["lengths32"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["x"], ["x_time_major"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["x_time_major", "W", "R", "B", "lengths32", *initial],
            ["Y", "Y_h", "Y_c"],
            name="lstm",
            hidden_size=hidden,
            direction="bidirectional" if directions == 2 else "forward",
        ),
        helper.make_node("Transpose", ["Y"], ["Y_batch_major"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["Y_batch_major", "flat_steps"], ["steps"]),
        helper.make_node("Transpose", ["Y_h"], ["h_batch_major"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["h_batch_major", "flat"], ["last"]),
    ]
    if stepwise:
        weights.append(numpy_helper.from_array(np.array([0], np.int64), "direction_axis"))
        nodes[0:0] = [
            helper.make_node("Split", ["state"], ["h0", "c0"], axis=1, num_outputs=2),
            helper.make_node("Unsqueeze", ["h0", "direction_axis"], ["initial_h"]),
            helper.make_node("Unsqueeze", ["c0", "direction_axis"], ["initial_c"]),
        ]
        nodes += [
            helper.make_node("Squeeze", ["Y_h", "direction_axis"], ["h1"]),
            helper.make_node("Squeeze", ["Y_c", "direction_axis"], ["c1"]),
            helper.make_node("Concat", ["h1", "c1"], ["next_state"], axis=1),
        ]
    return nodes, weights


def _halved(
    nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Let the LSTM, and what follows it, compute in half precision; casts on the boundary keep that in FP32."""
    names = {"x": "x_half", "steps": "steps_half", "last": "last_half"}
    inside = []
    for node in nodes:
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        for side in (renamed.input, renamed.output):
            side[:] = [names.get(name, name) for name in side]
        inside.append(renamed)
    casts = [helper.make_node("Cast", [names[name]], [name], to=TensorProto.FLOAT) for name in ("steps", "last")]
    halves = [
        numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name)
        if weight.data_type == TensorProto.FLOAT
        else weight
        for weight in weights
    ]
    return [helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16), *inside, *casts], halves


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, TYPES[tensor.datatype], list(tensor.shape))
