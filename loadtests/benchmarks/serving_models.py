"""The models and requests that the server is measured with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.artefact import tool_versions
from export.job import now
from export.model import OnnxModel
from export.onnx_file.evaluate import IR_VERSION
from export.onnx_file.reading import OPSET
from loadtests.benchmarks.int8_models import export_pair
from serving._proto import open_inference_pb2 as oip
from serving.manifest import Int8, Manifest, ModelFile, sha256_of
from serving.manifest import Tensor as ServedTensor

SEED = 0
LENGTH_BYTES = 4
"""Before each message of a file of requests."""
MEDIAN_STEPS = 60
SPREAD = 0.8
"""Of the logarithm of lengths: the standard deviation."""
SHORTEST, LONGEST = 10, 400
OUTLIER_STEPS = 2_000
OUTLIER_SHARE = 0.05
REQUESTS = 400
"""Different ones of a workload; they are sent in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of an LSTM of two layers."""

    features: int
    hidden: int


TINY = Size(features=8, hidden=64)
MEDIUM = Size(features=40, hidden=256)
WIDE = Size(features=64, hidden=1024)
EMPTY = Size(features=8, hidden=8)


class LastStep(nn.Module):
    """An LSTM and its last step's hidden outputs, so that answers are small."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size.features, size.hidden, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32[batch, hidden] of x float32[batch, time, features]."""
        y, _ = self.lstm(x)
        last: Tensor = y[:, -1]
        return last


def write_models(size: Size, repository: Path, variants: dict[str, str], *, int8: str | None = None) -> None:
    """Write one version folder per variant of one seeded model, and one of its INT8 form.

    Args:
        size: of the model.
        repository: to write into.
        variants: names and their `model.yaml`.
        int8: name of the INT8 model, if any.

    Raises:
        ExportError: it cannot be exported or quantized.
    """
    torch.manual_seed(SEED)
    pair = export_pair(LastStep(size), features=size.features)
    first: Path | None = None
    for name, yaml in variants.items():
        first = _write(pair.fp32, repository / name, yaml, precision_int8=False, same_file_as=first)
    if int8 is not None:
        _write(pair.int8, repository / int8, "", precision_int8=True, same_file_as=None)


def write_empty_model(repository: Path, name: str) -> None:
    """Write a model that answers with the first step of `x`, so that the engine has next to nothing to do."""
    x = ServedTensor(name="x", datatype="FP32", shape=("batch", "time", EMPTY.features))
    output = ServedTensor(name="output", datatype="FP32", shape=("batch", EMPTY.hidden))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "first"], ["output"], axis=1)],
        "empty",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output.shape)],
        [numpy_helper.from_array(np.array(0), "first")],
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(file)
    content = file.SerializeToString()
    model = OnnxModel(content=content, inputs=(x,), outputs=(output,), state=None, recurrent_nodes=())
    _write(model, repository / name, "", precision_int8=False, same_file_as=None)


def lengths_of(count: int, *, outliers: bool, seed: int = SEED) -> list[int]:
    """Draw log-normal lengths (steps), clipped; with outliers, one in twenty has 2,000 steps."""
    rng = np.random.default_rng(seed)
    drawn = np.clip(np.exp(rng.normal(np.log(MEDIAN_STEPS), SPREAD, count)), SHORTEST, LONGEST).astype(int)
    if outliers:
        drawn[rng.permutation(count)[: int(count * OUTLIER_SHARE)]] = OUTLIER_STEPS
    return [int(steps) for steps in drawn]


def write_requests(
    path: Path, model: str, size: Size, lengths: Sequence[int], *, timeout_us: int | None = None
) -> None:
    """Write requests of one row each, seeded noise, for the load generator."""
    rng = np.random.default_rng(SEED)
    noise = rng.normal(size=(1, max(lengths), size.features)).astype("<f4")
    with path.open("wb") as file:
        for steps in lengths:
            message = oip.ModelInferRequest(model_name=model, raw_input_contents=[noise[:, :steps].tobytes()])
            message.inputs.add(name="x", datatype="FP32", shape=[1, steps, size.features])
            message.outputs.add(name="output")
            if timeout_us is not None:
                message.parameters["timeout"].int64_param = timeout_us
            content = message.SerializeToString()
            file.write(len(content).to_bytes(LENGTH_BYTES, "little") + content)


def canned_answer(size: Size) -> bytes:
    """Return what the transport's floor answers with: a response of the right size."""
    response = oip.ModelInferResponse(
        model_name="floor", model_version="1", raw_output_contents=[bytes(4 * size.hidden)]
    )
    response.outputs.add(name="output", datatype="FP32", shape=[1, size.hidden])
    return response.SerializeToString()


def _write(model: OnnxModel, folder: Path, yaml: str, *, precision_int8: bool, same_file_as: Path | None) -> Path:
    version = folder / "1"
    version.mkdir(parents=True)
    file = version / "model.onnx"
    if same_file_as is None:
        file.write_bytes(model.content)
    else:
        os.link(same_file_as, file)
    quantized = Int8(
        engine="onnxruntime", per_channel=True, reduce_range=True, quantized_nodes=("LSTM",), source_version=1
    )
    Manifest(
        name=folder.name,
        version=1,
        precision="int8" if precision_int8 else "fp32",
        inputs=model.inputs,
        lengths_input="lengths",
        outputs=model.outputs,
        stepwise=model.state is not None,
        state=model.state,
        int8=quantized if precision_int8 else None,
        file=ModelFile(sha256=sha256_of(file), bytes=len(model.content)),
        proofs=(),
        tools=tool_versions(),
        created=now(),
    ).write(version)
    (folder / "model.yaml").write_text(yaml + "\n", encoding="utf-8")
    return file
