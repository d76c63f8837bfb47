"""The models that INT8 is measured on, each in FP32 and INT8, made by the exporter without a folder or proofs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from export.errors import CarriedStateUnsupported
from export.model import OnnxModel
from export.pytorch.loading import lengths_parameter
from export.pytorch.to_onnx import to_onnx
from export.pytorch.trace import observe_layers
from export.smaller.quantize import quantize
from export.spec import ExportSpec, parse_input

FEATURES = 64
LAYERS = 2
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a random LSTM of two layers."""

    hidden: int
    bidirectional: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{LAYERS}x{self.hidden}{' bidirectional' if self.bidirectional else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One model in both precisions."""

    fp32: OnnxModel
    int8: OnnxModel


class Stack(nn.Module):
    """LSTM layers and nothing else, so that what is measured is theirs alone."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, size.hidden, LAYERS, bidirectional=size.bidirectional, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's float32[batch, time, directions * hidden] of x float32[batch, time, features]."""
        y, _ = self.lstm(x)
        output: Tensor = y
        return output


def random_pair(size: Size) -> Pair:
    """Return an LSTM with torch's random initial weights, seeded.

    Raises:
        ExportError: it cannot be exported or quantized.
    """
    torch.manual_seed(SEED)
    return export_pair(Stack(size), features=FEATURES)


def export_pair(model: nn.Module, *, features: int) -> Pair:
    """Return a model whose one float input is `x`, as the exporter would write it: with carried state if it can be.

    Raises:
        ExportError: it cannot be exported or quantized.
    """
    model.eval().requires_grad_(requires_grad=False)
    # Factory and weights only say in a manifest where a model came from; this one is at hand.
    spec = ExportSpec(
        factory="loadtests.benchmarks:none",
        weights=Path("none"),
        name="benchmark",
        inputs=(parse_input(f"x:float32[batch,time,{features}]"),),
    )
    lengths = lengths_parameter(model, spec)
    observed = observe_layers(model, spec, lengths_parameter=lengths)
    try:
        exported = to_onnx(model, spec, lengths_parameter=lengths, observed=observed, carry_state=True)
    except CarriedStateUnsupported:
        exported = to_onnx(model, spec, lengths_parameter=lengths, observed=observed, carry_state=False)
    return Pair(fp32=exported.model, int8=quantize(exported.model).model)
