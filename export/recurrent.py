"""Recurrent layers that emit the ONNX operator themselves, and the table that says which torch layer becomes which.

torch's own lowering leaves the weights as computed tensors, so that quantization passes them over, freezes the time
axis of bidirectional layers and knows no lengths. Source: the operator text of LSTM in the ONNX standard (opset 14).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from export.errors import CarriedStateUnsupported, ExportError
from export.packing import Packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of torch layer is written in ONNX.

    Attributes:
        op: ONNX operator.
        gates: torch's gate blocks in ONNX order (torch has i,f,g,o; ONNX i,o,f,c).
    """

    op: str
    gates: tuple[int, ...]


KINDS: dict[type[nn.RNNBase], Kind] = {nn.LSTM: Kind(op="LSTM", gates=(0, 3, 1, 2))}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(slots=True, kw_only=True)
class Run:
    """What the swapped layers of one traced forward pass share.

    Attributes:
        lengths: int64[batch], steps.
        time: size of the inputs' time axis.
        state: float32[batch, S] that the layers start from; None for zeros.
        final: what each layer leaves behind, float32[batch, part of S], by the layer's offset in the state.
        nodes: the ONNX nodes emitted, in order.
    """

    lengths: Tensor
    time: int | torch.SymInt
    state: Tensor | None = None
    final: dict[int, Tensor] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)

    def next_state(self, layers: "Sequence[OnnxRecurrent]") -> Tensor:
        """Return what the layers leave behind as float32[batch, S].

        Raises:
            CarriedStateUnsupported: one of them did not run.
        """
        if not all(layer.offset in self.final for layer in layers):
            raise CarriedStateUnsupported("forward does not run every recurrent layer")
        return torch.cat([self.final[layer.offset] for layer in layers], dim=1)


class OnnxRecurrent:
    """The `forward` of a recurrent layer during an export: same arguments and results, one ONNX node per layer.

    The layer itself stays in its place, so that code that reads its sizes or weights goes on working.
    """

    def __init__(self, name: str, layer: nn.RNNBase, *, offset: int, starts_at_zero: bool) -> None:
        """Register the weights in ONNX order with the layer.

        Args:
            name: the layer's path in the model; its nodes are named after it.
            layer: whose forward this is to be.
            offset: where the layer's part of the state begins.
            starts_at_zero: the `hx` that forward gives is all zeros, so carried state may take its place.
        """
        self.name, self.offset, self.starts_at_zero = name, offset, starts_at_zero
        self.layer = layer
        self.kind = next(kind for base, kind in KINDS.items() if isinstance(layer, base))
        self.hidden, self.layers = layer.hidden_size, layer.num_layers
        self.directions = 2 if layer.bidirectional else 1
        self.run: Run | None = None
        for depth in range(self.layers):
            for letter, weight in _onnx_weights(layer, depth, self.kind).items():
                layer.register_buffer(f"onnx_{letter}{depth}", weight)

    def __call__(
        self,
        input: Tensor | Packed,  # noqa: A002  torch's name, which callers may use
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor | Packed, tuple[Tensor, Tensor]]:
        """Return what the layer returns: outputs, and (h_n, c_n) of each row's last real step."""
        assert self.run is not None
        batch_first = self.layer.batch_first and not isinstance(input, Packed)
        given = input.padded if isinstance(input, Packed) else input
        if given.dim() != 3:
            raise ExportError(f"layer '{self.name}' is given {given.dim()} axes; expected batch, time and features")
        steps = given.transpose(0, 1) if batch_first else given
        starts = self._starts(hx, steps)
        lengths = self._lengths(input, steps)
        final: list[tuple[Tensor, Tensor]] = []
        for depth in range(self.layers):
            steps, h, c = self._emit(depth, steps, lengths, starts[depth])
            final.append((h, c))
        if self.directions == 1:
            self.run.final[self.offset] = torch.cat([pair[i].squeeze(0) for i in range(2) for pair in final], dim=1)
        h_n, c_n = (torch.cat([pair[i] for pair in final]) for i in range(2))
        if isinstance(input, Packed):
            return Packed(steps, input.lengths), (h_n, c_n)
        return (steps.transpose(0, 1) if batch_first else steps), (h_n, c_n)

    def _lengths(self, given: Tensor | Packed, steps: Tensor) -> Tensor | None:
        """Return int32[batch] lengths: the packed ones, or the graph's; None for a layer over other axes."""
        assert self.run is not None
        if isinstance(given, Packed):
            return given.lengths.to(torch.int32)
        return self.run.lengths.to(torch.int32) if self._over_rows(steps, self.run) else None

    def _over_rows(self, steps: Tensor, run: Run) -> bool:
        """Return whether the layer's axes are the inputs' time and batch, and not something derived from them."""
        return statically_known_true(steps.shape[0] == run.time) and statically_known_true(
            steps.shape[1] == run.lengths.shape[0]
        )

    def _starts(self, hx: tuple[Tensor, Tensor] | None, steps: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the initial h and c of each layer, float32[directions, batch, hidden], or None for zeros."""
        run = self.run
        assert run is not None
        if run.state is None:
            if hx is None:
                return [(None, None)] * self.layers
            parts = [slice(depth * self.directions, (depth + 1) * self.directions) for depth in range(self.layers)]
            return [(hx[0][part], hx[1][part]) for part in parts]
        if (hx is not None and not self.starts_at_zero) or self.offset in run.final or not self._over_rows(steps, run):
            raise CarriedStateUnsupported(f"layer '{self.name}' does not run once over the inputs' rows and steps")
        blocks = [
            run.state.narrow(1, self.offset + block * self.hidden, self.hidden).unsqueeze(0)
            for block in range(2 * self.layers)
        ]
        return list(zip(blocks[: self.layers], blocks[self.layers :], strict=True))

    def _emit(
        self, depth: int, steps: Tensor, lengths: Tensor | None, start: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add a node; gives float32[time, batch, directions * hidden], h and c float32[directions, batch, hidden]."""
        assert self.run is not None
        time, batch, _ = steps.shape
        runs = self.run.nodes.count(f"{self.name}.layer{depth}")
        node = f"{self.name}.layer{depth}" + (f".{len(self.run.nodes)}" if runs else "")
        self.run.nodes.append(node)
        final = [self.directions, batch, self.hidden]
        weights = [getattr(self.layer, f"onnx_{letter}{depth}") for letter in "WRB"]
        y, y_h, y_c = torch.onnx.ops.symbolic_multi_out(
            self.kind.op,
            [steps, *weights, lengths, *start],
            {"hidden_size": self.hidden, "direction": "bidirectional" if self.directions == 2 else "forward"},
            dtypes=(torch.float32,) * 3,
            shapes=([time, self.directions, batch, self.hidden], final, final),
            metadata_props={NODE_NAME: node},
        )
        return (y.squeeze(1) if self.directions == 1 else y.transpose(1, 2).flatten(2)), y_h, y_c


NODE_NAME = "layer"
"""Key of the node's metadata that holds the name it is given in the finished file."""


def swap_recurrent(model: nn.Module, *, zero_starts: Mapping[str, bool]) -> tuple[nn.Module, list[OnnxRecurrent], int]:
    """Return a copy of the model whose recurrent layers emit ONNX nodes, those layers, and the state's size S.

    Args:
        model: left as it is.
        zero_starts: layers that forward gives an `hx`, and whether it was all zeros.

    Raises:
        ExportError: as `recurrent_layers`.
    """
    model = copy.deepcopy(model)
    swapped: list[OnnxRecurrent] = []
    size = 0
    for path, layer in recurrent_layers(model).items():
        name = path or type(layer).__name__.lower()
        swapped.append(OnnxRecurrent(name, layer, offset=size, starts_at_zero=zero_starts.get(path, True)))
        layer.forward = swapped[-1]  # of this copy of the layer, not of its class
        size += 2 * layer.num_layers * layer.hidden_size
    return model, swapped, size


def recurrent_layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    """Return the recurrent layers by their path in the model.

    Raises:
        ExportError: there is none, or one is of a kind that is not supported.
    """
    layers = {
        path: _check_supported(path or type(module).__name__.lower(), module)
        for path, module in model.named_modules()
        if isinstance(module, RECURRENT)
    }
    if not layers:
        raise ExportError(
            f"{type(model).__name__} has no recurrent layer (nn.LSTM); loops over cells written by hand are not "
            "supported: use nn.LSTM"
        )
    return layers


def _check_supported(name: str, module: nn.Module) -> nn.RNNBase:
    if not isinstance(module, nn.RNNBase) or not isinstance(module, tuple(KINDS)):
        raise ExportError(
            f"layer '{name}' is {type(module).__name__}: not supported yet; supported is "
            f"{', '.join(kind.__name__ for kind in KINDS)}"
        )
    if module.proj_size > 0:
        raise ExportError(f"layer '{name}' has proj_size {module.proj_size}: projections are not supported yet")
    if any(weight.dtype != torch.float32 for weight in module.parameters()):
        raise ExportError(f"layer '{name}' has weights that are not float32; call .float() in the factory")
    return module


def _onnx_weights(layer: nn.RNNBase, depth: int, kind: Kind) -> dict[str, Tensor]:
    """Return W float32[D, 4H, I], R float32[D, 4H, H], B float32[D, 8H] of one layer, D directions, in ONNX order."""

    def both(stem: str) -> Tensor:
        directions = [f"{stem}_l{depth}"] + ([f"{stem}_l{depth}_reverse"] if layer.bidirectional else [])
        return torch.stack([_reorder(getattr(layer, name).detach(), kind.gates) for name in directions])

    weights = {"W": both("weight_ih"), "R": both("weight_hh")}
    if layer.bias:
        bias = torch.cat([both("bias_ih"), both("bias_hh")], dim=1)
    else:
        bias = weights["W"].new_zeros(weights["W"].shape[0], 2 * weights["W"].shape[1])
    return {**weights, "B": bias}


def _reorder(weight: Tensor, gates: tuple[int, ...]) -> Tensor:
    blocks = weight.chunk(len(gates))
    return torch.cat([blocks[gate] for gate in gates]).contiguous()
