"""Exports for the tests: a model to ONNX without a folder, and a job that talks to nobody."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from export.job import Job
from export.pytorch.loading import lengths_parameter
from export.pytorch.reference import Reference
from export.pytorch.to_onnx import to_onnx
from export.pytorch.trace import observe_layers
from export.runtime import Row, Runtime
from export.spec import ExportSpec, parse_input
from tests.export.models import FEATURES

X = f"x:float32[batch,time,{FEATURES}]"


def exported(
    factory: Callable[[], nn.Module],
    inputs: Sequence[str] = (X,),
    *,
    carry_state: bool = False,
    lengths: str | None = None,
) -> tuple[Runtime, Reference]:
    """Export a seeded model; gives the graph in onnxruntime and the PyTorch model that judges it."""
    torch.manual_seed(0)
    model = factory().eval().requires_grad_(requires_grad=False)
    spec = ExportSpec(
        factory="tests.export.models:any",
        weights=Path("unused.pt"),
        name="any",
        inputs=tuple(map(parse_input, inputs)),
        lengths_argument=lengths,
    )
    parameter = lengths_parameter(model, spec)
    observed = observe_layers(model, spec, lengths_parameter=parameter)
    result = to_onnx(model, spec, lengths_parameter=parameter, observed=observed, carry_state=carry_state)
    reference = Reference(model=model, spec=spec, lengths_parameter=parameter, exported=result)
    return Runtime(result.model), reference


def rows_of(runtime: Runtime, lengths: Sequence[int], *, seed: int = 0) -> list[Row]:
    """Return seeded rows of these lengths (steps) for a graph's inputs."""
    rng = np.random.default_rng(seed)
    rows = []
    for steps in lengths:
        inputs = {}
        for tensor in runtime.model.inputs:
            shape = [steps if axis == "time" else int(axis) for axis in tensor.shape[1:]]
            values = rng.normal(size=shape) if tensor.datatype == "FP32" else rng.integers(0, 6, shape)
            inputs[tensor.name] = values.astype(tensor.dtype)
        rows.append(Row(inputs=inputs, steps=steps))
    return rows


def worst_difference(runtime: Runtime, reference: Reference, rows: Sequence[Row], *, dirty: bool = True) -> float:
    """Return the largest absolute difference between one padded batch and PyTorch's answer to each row alone."""
    pairs = zip(runtime.answer(rows, dirty=dirty), reference.answers(rows), strict=True)
    return max(float(np.abs(answer[name] - expected[name]).max()) for answer, expected in pairs for name in expected)


def quiet_job(*, data: Path | None = None, force: bool = False) -> tuple[Job, io.StringIO]:
    """Return a job whose progress is collected instead of shown."""
    shown = io.StringIO()
    return Job(data=data, force=force, console=Console(file=shown, width=200)), shown


def saved_weights(factory: type[nn.Module], directory: Path) -> Path:
    """Write a seeded state dict and return its path."""
    torch.manual_seed(0)
    path = directory / f"{factory.__name__}.pt"
    torch.save(factory().state_dict(), path)
    return path
