"""Files made in the test, their export, and the comparison of what was written with PyTorch."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.model import OnnxModel
from export.onnx_file.export_onnx import export_onnx
from export.runtime import Array, Row, Runtime
from export.smaller.quantize import recurrent_nodes
from export.spec import parse_input
from serving.manifest import Manifest, read_manifest
from tests.export.support import quiet_job

Answers = Sequence[Array]


def traced(model: nn.Module, path: Path, *arguments: Tensor, **options: Any) -> Path:
    """Write a model with torch's TorchScript exporter, frozen to the arguments' sizes unless `options` free them."""
    options.setdefault("dynamo", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), arguments, path, verbose=False, **options)
    return path


def seeded(factory: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return factory().eval().requires_grad_(requires_grad=False)


def converted(file: Path, *inputs: str, force: bool = False) -> tuple[Manifest, Runtime, str]:
    """Export a file; gives the manifest, the written graph in onnxruntime, and the report."""
    job, _ = quiet_job(force=force)
    declared = tuple(map(parse_input, inputs)) or None
    directory = export_onnx(file, name="model", inputs=declared, models=file.parent / "models", job=job)
    manifest = read_manifest(directory)
    content = (directory / "model.onnx").read_bytes()
    model = OnnxModel(
        content=content,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        state=manifest.state,
        recurrent_nodes=recurrent_nodes(content),
    )
    return manifest, Runtime(model), (directory / "report.md").read_text()


def rows_of(runtime: Runtime, *lengths: int) -> list[Row]:
    """Return seeded rows of these lengths (steps)."""
    rng = np.random.default_rng(0)
    rows = []
    for steps in lengths:
        inputs = {}
        for tensor in runtime.model.inputs:
            shape = [steps if axis == "time" else int(axis) for axis in tensor.shape[1:]]
            values = rng.normal(size=shape) if tensor.datatype == "FP32" else rng.integers(0, 6, shape)
            inputs[tensor.name] = values.astype(tensor.dtype)
        rows.append(Row(inputs=inputs, steps=steps))
    return rows


def difference(runtime: Runtime, expected: Callable[[Row], Mapping[str, Array]], *lengths: int) -> float:
    """Return the largest difference of one dirtily padded batch from what each row should get alone."""
    rows = rows_of(runtime, *(lengths or (7, 3, 12, 1, 7)))
    worst = 0.0
    for row, answer in zip(rows, runtime.answer(rows, dirty=True), strict=True):
        alone = expected(row)
        assert answer.keys() == alone.keys()
        worst = max(worst, *(float(np.abs(answer[name] - alone[name]).max()) for name in alone))
    return worst


def by_torch(model: nn.Module, *names: str, name: str = "x") -> Callable[[Row], Mapping[str, Array]]:
    """Return how a batch-first model with one input answers a row."""

    def answer(row: Row) -> Mapping[str, Array]:
        outputs = model(torch.from_numpy(row.inputs[name][None]))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {key: output[0].numpy() for key, output in zip(names, outputs, strict=True)}

    return answer
