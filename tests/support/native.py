"""Tiny but real versions with a native plan: the LSTM of `tests.support.artefacts`, cut as the exporter would cut it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import onnx
import pytest
from onnx import numpy_helper
from onnx.utils import Extractor

from serving.engine.native import library
from serving.engine.native.weights import FloatLayer, pack
from serving.manifest import Int8, Manifest, read_manifest, sha256_of
from serving.plan import NATIVE_DIRECTORY, WEIGHTS_FILE, OnnxPart, Plan, PlanFile, RecurrentPart, ViewPart
from tests.support.artefacts import write_lstm

needs_library = pytest.mark.skipif(not library.LIBRARY.exists(), reason="the native engine's library was not built")


def write_native(
    repository: Path,
    name: str = "native",
    version: int = 1,
    *,
    stepwise: bool = False,
    prefers: Literal["native", "onnxruntime"] = "native",
) -> Path:
    """Write the model of `write_lstm` (bidirectional unless stepwise) with a native plan beside its FP32 `model.onnx`.

    Of a stepwise model, onnxruntime runs what makes states of the tensor `state` and back; views do the rest.
    """
    directory = write_lstm(
        repository, name, version, bidirectional=not stepwise, stepwise=stepwise, int8_range=(-9.0, 9.0)
    )
    model = onnx.load(directory / "model.onnx")
    native = directory / NATIVE_DIRECTORY
    native.mkdir()
    (native / WEIGHTS_FILE).write_bytes(pack([float_layer(model, bidirectional=not stepwise)]))
    before = [_onnx_part(model, native, 0, ["state"], ["initial_h", "initial_c"])] if stepwise else []
    after = [_onnx_part(model, native, 1, ["Y_h", "Y_c"], ["next_state"])] if stepwise else []
    recurrent = RecurrentPart(
        node="lstm",
        operator="LSTM",
        layer=0,
        x="x_time_major",
        lengths="lengths",
        initial_h="initial_h" if stepwise else None,
        initial_c="initial_c" if stepwise else None,
        y="Y",
        y_h="Y_h",
        y_c="Y_c" if stepwise else None,
    )
    parts = (*before, _view("Transpose", "x", "x_time_major", 1, 0, 2), recurrent, *_heads(), *after)
    manifest = read_manifest(directory)
    int8 = Int8(engine=prefers, per_channel=True, reduce_range=True, quantized_nodes=("lstm",), source_version=1)
    plan = Plan(weights=plan_file(native / WEIGHTS_FILE), parts=parts)
    Manifest.model_validate(manifest.model_dump() | {"int8": int8, "native": plan}).write(directory)
    return directory


def float_layer(model: onnx.ModelProto, *, bidirectional: bool) -> FloatLayer:
    """Return the weights of the model's LSTM."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    direction = "bidirectional" if bidirectional else "forward"
    return FloatLayer(operator="LSTM", direction=direction, w=arrays["W"], r=arrays["R"], b=arrays["B"])


@contextmanager
def unbuilt() -> Iterator[None]:
    """Within it the installation is one whose library was not built."""
    built = library.LIBRARY
    library.LIBRARY = built.with_name("absent.so")
    library.load_library.cache_clear()
    try:
        yield
    finally:
        library.LIBRARY = built
        library.load_library.cache_clear()


def plan_file(path: Path) -> PlanFile:
    """Describe a file as it is."""
    return PlanFile(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)


def _heads() -> tuple[ViewPart, ...]:
    return (
        _view("Transpose", "Y", "Y_batch_major", 2, 0, 1, 3),
        _view("Reshape", "Y_batch_major", "steps", 0, 0, -1),
        _view("Transpose", "Y_h", "h_batch_major", 1, 0, 2),
        _view("Reshape", "h_batch_major", "last", 0, -1),
    )


def _view(operator: Literal["Transpose", "Reshape"], source: str, target: str, *axes: int) -> ViewPart:
    return ViewPart(operator=operator, input=source, output=target, axes=axes)


def _onnx_part(model: onnx.ModelProto, native: Path, number: int, inputs: list[str], outputs: list[str]) -> OnnxPart:
    """Cut out the nodes between the tensors."""
    extractor = Extractor(onnx.shape_inference.infer_shapes(model))
    path = native / f"part-{number}.onnx"
    onnx.save(extractor.extract_model(inputs, outputs), path)
    return OnnxPart(file=plan_file(path), inputs=tuple(inputs), outputs=tuple(outputs))
