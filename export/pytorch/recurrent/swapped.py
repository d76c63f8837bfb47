"""What layers that stand in for others during an export have in common: one traced run, their part of the state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from export.errors import CarriedStateUnsupported


@dataclass(slots=True, kw_only=True)
class Run:
    """What the swapped layers of one traced forward pass share.

    Attributes:
        lengths: int64[batch], steps.
        time: size of the inputs' time axis.
        state: float32[batch, S] that the layers start from; None for zeros.
        final: what each layer leaves behind, float32[batch, part of S], by the layer's offset in the state.
        nodes: the recurrent operators emitted, in order.
    """

    lengths: Tensor
    time: int | torch.SymInt
    state: Tensor | None = None
    final: dict[int, Tensor] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)


class Swapped:
    """A layer's `forward` during an export: same arguments and results, ONNX operators inside.

    Attributes:
        name: the layer's path in the model; its nodes are named after it.
        offset: where the layer's part of the state begins.
        size: floats of its part, per row.
        backwards: it reads the sequence from its end too, so it cannot carry state.
    """

    def __init__(self, name: str, *, offset: int, size: int, backwards: bool, starts_at_zero: bool) -> None:
        """Describe the layer; `starts_at_zero`: forward gives it an `hx` of zeros, so state may take its place."""
        self.name, self.offset, self.size, self.backwards = name, offset, size, backwards
        self._starts_at_zero = starts_at_zero
        self.run: Run | None = None

    def _current(self) -> Run:
        assert self.run is not None, "the boundary sets the run before it calls forward"
        return self.run

    def _lengths(self, steps: Tensor) -> Tensor | None:
        """Return int64[batch] lengths; None for a layer over other axes than the inputs' time and batch."""
        return self._current().lengths if self._over_rows(steps) else None

    def _over_rows(self, steps: Tensor) -> bool:
        run = self._current()
        return statically_known_true(steps.shape[0] == run.time) and statically_known_true(
            steps.shape[1] == run.lengths.shape[0]
        )

    def _carried(self, steps: Tensor, *, given: bool) -> Tensor | None:
        """Return the layer's part of the carried state, float32[batch, size]; None if none is carried.

        Args:
            steps: dtype[time, batch, ...] that the layer runs over.
            given: forward gives an initial state by hand.

        Raises:
            CarriedStateUnsupported: the layer does not run once over the inputs' rows and steps.
        """
        run = self._current()
        if run.state is None:
            return None
        if (given and not self._starts_at_zero) or self.offset in run.final or not self._over_rows(steps):
            raise CarriedStateUnsupported(f"layer '{self.name}' does not run once over the inputs' rows and steps")
        return run.state.narrow(1, self.offset, self.size)

    def _leave(self, final: Tensor) -> None:
        """Keep float32[batch, size] as the layer's part of the next state."""
        self._current().final[self.offset] = final


def next_state(run: Run, layers: Sequence[Swapped]) -> Tensor:
    """Return what the layers left behind as float32[batch, S].

    Raises:
        CarriedStateUnsupported: one of them did not run.
    """
    if not all(layer.offset in run.final for layer in layers):
        raise CarriedStateUnsupported("forward does not run every recurrent layer")
    return torch.cat([run.final[layer.offset] for layer in layers], dim=1)
