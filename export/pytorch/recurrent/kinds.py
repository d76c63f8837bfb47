"""Which layer becomes which ONNX operator, and its weights in that operator's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from export.modules import PeepholeLSTM


class RecurrentLayer(Protocol):
    """The sizes that `nn.RNNBase` and our own layers share."""

    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of layer is written in ONNX.

    Attributes:
        op: ONNX operator.
        gates: the layer's gate blocks in ONNX order (torch's LSTM has i,f,g,o, ONNX i,o,f,c; torch's GRU r,z,n, ONNX
            z,r,h).
        peepholes: the blocks of its peephole weights in ONNX order (i,o,f); empty without.
        attributes: that the operator needs beside its sizes.
    """

    op: str
    gates: tuple[int, ...]
    peepholes: tuple[int, ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)

    @property
    def states(self) -> int:
        """Tensors that a layer carries from step to step: h, and c for an LSTM."""
        return 2 if self.op == "LSTM" else 1


LSTM_GATES = (0, 3, 1, 2)
KINDS: dict[type[nn.Module], Kind] = {
    nn.LSTM: Kind(op="LSTM", gates=LSTM_GATES),
    # torch multiplies by the reset gate after the product with R, not before
    nn.GRU: Kind(op="GRU", gates=(1, 0, 2), attributes={"linear_before_reset": 1}),
    nn.RNN: Kind(op="RNN", gates=(0,)),
    PeepholeLSTM: Kind(op="LSTM", gates=LSTM_GATES, peepholes=(0, 2, 1)),
}
OPERATORS = frozenset(kind.op for kind in KINDS.values())
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


def kind_of(layer: nn.Module) -> Kind:
    """Return the layer's row of the table; of a subclass, that of its base."""
    return next(kind for base, kind in KINDS.items() if isinstance(layer, base))


def sizes_of(layer: nn.Module) -> RecurrentLayer:
    """Return the layer as what every layer of the table is."""
    return cast("RecurrentLayer", layer)


Attributes = dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]]


def attributes_of(layer: nn.Module, kind: Kind, *, directions: int) -> Attributes:
    """Return the operator's attributes for a layer."""
    attributes: Attributes = dict(kind.attributes)
    attributes["hidden_size"] = sizes_of(layer).hidden_size
    attributes["direction"] = "bidirectional" if directions == 2 else "forward"
    if isinstance(layer, nn.RNN):
        attributes["activations"] = [ACTIVATIONS[layer.nonlinearity]] * directions
    return attributes


def projections_of(layer: nn.Module, depth: int) -> dict[str, Tensor]:
    """Return the projection of one layer, float32[directions, projection, hidden], and its right inverse.

    Without a projection nothing; without the inverse if the projection's rows depend on each other.
    """
    if not getattr(layer, "proj_size", 0):
        return {}
    weights = _both(layer, "weight_hr", depth)
    if any(int(torch.linalg.matrix_rank(weight)) < len(weight) for weight in weights):
        return {"projection": weights}
    return {"projection": weights, "inverse": torch.linalg.pinv(weights.double()).float()}


def onnx_weights(layer: nn.Module, depth: int, kind: Kind) -> dict[str, Tensor]:
    """Return the weights of one layer in ONNX order, by the operator's names, D directions, G gates.

    W is float32[D, G * hidden, inputs], R float32[D, G * hidden, hidden], B float32[D, 2 * G * hidden] and, with
    peepholes, P float32[D, 3 * hidden].

    ONNX has no projection, so it is folded: with R' = R @ projection the operator runs on the hidden state before the
    projection, and gives exactly the layer's gates and cell.
    """
    recurrent = _both(layer, "weight_hh", depth)
    if getattr(layer, "proj_size", 0):
        recurrent = (recurrent.double() @ _both(layer, "weight_hr", depth).double()).float()
    weights = {"W": _reorder(_both(layer, "weight_ih", depth), kind.gates), "R": _reorder(recurrent, kind.gates)}
    if layer.bias:
        biases = [_reorder(_both(layer, stem, depth), kind.gates) for stem in ("bias_ih", "bias_hh")]
        weights["B"] = torch.cat(biases, dim=1)
    else:
        directions, rows, _ = weights["W"].shape
        weights["B"] = weights["W"].new_zeros(directions, 2 * rows)
    if kind.peepholes:
        weights["P"] = _reorder(_both(layer, "weight_peephole", depth), kind.peepholes)
    return weights


def _both(layer: nn.Module, stem: str, depth: int) -> Tensor:
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    # getattr: a parametrization, such as weight_norm, computes what goes by a parameter's name
    return torch.stack([getattr(layer, f"{stem}_l{depth}{suffix}").detach() for suffix in suffixes])


def _reorder(weight: Tensor, blocks: tuple[int, ...]) -> Tensor:
    parts = weight.chunk(len(blocks), dim=1)
    return torch.cat([parts[block] for block in blocks], dim=1).contiguous()


def projection_notes(model: nn.Module) -> list[str]:
    """Return a sentence for each layer whose projection is folded, and what that makes of its recurrent weights."""
    notes = []
    for path, layer in model.named_modules():
        if isinstance(layer, nn.LSTM) and layer.proj_size:
            hidden, projection = layer.hidden_size, layer.proj_size
            ratio = 4 * hidden * hidden / (4 * hidden * projection + projection * hidden)
            notes.append(
                f"ONNX's LSTM has no projection: that of '{path or 'lstm'}' ({hidden} to {projection}) is folded into "
                f"its recurrent weights, which makes {ratio:.1f} times as many of them."
            )
    return notes
