"""LSTM, GRU and RNN layers, with all their variants, as one ONNX operator per layer."""

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.pytorch.packing import Packed
from export.pytorch.recurrent.kinds import attributes_of, kind_of, onnx_weights, projections_of, sizes_of
from export.pytorch.recurrent.swapped import Swapped

NODE_NAME = "layer"
"""Key of the node's metadata that holds the name it is given in the finished file."""
State = tuple[Tensor, ...]
"""h, and c for an LSTM."""


class OperatorLayer(Swapped):
    """A recurrent layer of the table `KINDS`. It stays in its place, so code that reads its sizes goes on working."""

    def __init__(self, name: str, layer: nn.Module, *, offset: int, starts_at_zero: bool) -> None:
        """Register the weights in ONNX order with the layer, whose forward this is to be."""
        self.layer, self.kind, sizes = layer, kind_of(layer), sizes_of(layer)
        self.batch_first, self.hidden, self.layers = sizes.batch_first, sizes.hidden_size, sizes.num_layers
        self.directions = 2 if sizes.bidirectional else 1
        super().__init__(
            name,
            offset=offset,
            size=self.kind.states * self.layers * self.hidden,
            backwards=self.directions == 2,
            starts_at_zero=starts_at_zero,
        )
        for depth in range(self.layers):
            for letter, weight in onnx_weights(layer, depth, self.kind).items():
                layer.register_buffer(f"onnx_{letter}{depth}", weight)
            for stem, weight in projections_of(layer, depth).items():
                layer.register_buffer(f"onnx_{stem}{depth}", weight)

    def __call__(
        self,
        input: Tensor | Packed,  # noqa: A002  torch's name, which callers may use
        hx: Tensor | State | None = None,
    ) -> tuple[Tensor | Packed, Tensor | State]:
        """Return what the layer returns: outputs, and the state of each row's last real step."""
        batch_first = self.batch_first and not isinstance(input, Packed)
        given = input.padded if isinstance(input, Packed) else input
        if given.dim() != 3:
            raise ExportError(f"layer '{self.name}' is given {given.dim()} axes; expected batch, time and features")
        steps = given.transpose(0, 1) if batch_first else given
        starts = self._starts(hx, steps)
        lengths = input.lengths if isinstance(input, Packed) else self._lengths(steps)
        final: list[State] = []
        inner: list[State] = []
        for depth in range(self.layers):
            hidden, states = self._emit(depth, steps, lengths, starts[depth])
            steps = self._joined(self._projected(hidden, depth))
            inner.append(states)
            final.append((self._projected(states[0], depth), *states[1:]))
        if not self.backwards:
            parts = [states[i].squeeze(0) for i in range(self.kind.states) for states in inner]
            self._leave(torch.cat(parts, dim=1))
        last = tuple(torch.cat([states[i] for states in final]) for i in range(self.kind.states))
        result = last if self.kind.states == 2 else last[0]
        if isinstance(input, Packed):
            return Packed(steps, input.lengths), result
        return (steps.transpose(0, 1) if batch_first else steps), result

    def _starts(self, hx: Tensor | State | None, steps: Tensor) -> list[State | None]:
        """Return each layer's initial states, float32[directions, batch, hidden] each, or None for zeros."""
        carried = self._carried(steps, given=hx is not None)
        if carried is not None:
            blocks = [block.unsqueeze(0) for block in torch.split(carried, self.hidden, dim=1)]
            return [tuple(blocks[depth :: self.layers]) for depth in range(self.layers)]
        if hx is None:
            return [None] * self.layers
        states = hx if isinstance(hx, tuple) else (hx,)
        parts = [slice(depth * self.directions, (depth + 1) * self.directions) for depth in range(self.layers)]
        return [
            (self._unprojected(states[0][part], depth), *(state[part] for state in states[1:]))
            for depth, part in enumerate(parts)
        ]

    def _emit(self, depth: int, steps: Tensor, lengths: Tensor | None, start: State | None) -> tuple[Tensor, State]:
        """Add a node; gives float32[time, directions, batch, hidden], and states float32[directions, batch, hidden]."""
        time, batch, _ = steps.shape
        weights = [getattr(self.layer, f"onnx_{letter}{depth}") for letter in "WRB"]
        inputs = [steps, *weights, None if lengths is None else lengths.to(torch.int32)]
        inputs += [None] * self.kind.states if start is None else start
        if self.kind.peepholes:
            inputs.append(getattr(self.layer, f"onnx_P{depth}"))
        final = [self.directions, batch, self.hidden]
        y, *states = torch.onnx.ops.symbolic_multi_out(
            self.kind.op,
            inputs,
            attributes_of(self.layer, self.kind, directions=self.directions),
            dtypes=(torch.float32,) * (1 + self.kind.states),
            shapes=([time, self.directions, batch, self.hidden], *[final] * self.kind.states),
            metadata_props={NODE_NAME: self._node(depth)},
        )
        return y, tuple(states)

    def _node(self, depth: int) -> str:
        """Return the name of the next node, and remember it; a layer that runs again gets a number behind it."""
        nodes = self._current().nodes
        name = f"{self.name}.layer{depth}"
        nodes.append(f"{name}.{len(nodes)}" if name in nodes else name)
        return nodes[-1]

    def _joined(self, hidden: Tensor) -> Tensor:
        """Return float32[time, batch, directions * features] of the operator's [time, directions, batch, features]."""
        return hidden.squeeze(1) if self.directions == 1 else hidden.transpose(1, 2).flatten(2)

    def _projected(self, hidden: Tensor, depth: int) -> Tensor:
        """Return float32[..., directions, batch, projection] of float32[..., directions, batch, hidden]."""
        projection: Tensor | None = getattr(self.layer, f"onnx_projection{depth}", None)
        return hidden if projection is None else torch.matmul(hidden, projection.transpose(1, 2))

    def _unprojected(self, h: Tensor, depth: int) -> Tensor:
        """Return a hidden state that the projection takes to `h`: all that the operator needs to go on from it.

        Raises:
            ExportError: there may be none, because the rows of the projection depend on each other.
        """
        if getattr(self.layer, f"onnx_projection{depth}", None) is None:
            return h
        inverse: Tensor | None = getattr(self.layer, f"onnx_inverse{depth}", None)
        if inverse is None:
            raise ExportError(
                f"layer '{self.name}': forward gives it an initial state, and the rows of its projection depend on "
                "each other, so the state before the projection cannot be found; start it from zeros (no hx)"
            )
        return torch.matmul(h, inverse.transpose(1, 2))
