"""Stand-ins for torch's packed sequences during an export: the padded tensor and its lengths travel together.

Packing exists for speed; the ONNX recurrent operators take padded input and `sequence_lens` instead, so nothing has to
be sorted or cut. Source: the operator text of LSTM in the ONNX standard.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.utils import rnn

from export.errors import ExportError


@dataclass(frozen=True)
class Packed:
    """What `pack_padded_sequence` gives during an export.

    Attributes:
        padded: dtype[time, batch, ...], rows in the order given.
        lengths: int64[batch], steps.
    """

    padded: Tensor
    lengths: Tensor

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ExportError(
            f"forward reads PackedSequence.{name}; only nn.LSTM and pad_packed_sequence may take a packed sequence in "
            "an export. Call pad_packed_sequence first"
        )


def _pack(
    input: Tensor,  # noqa: A002  torch's name, which callers may use
    lengths: Tensor,
    batch_first: bool = False,  # noqa: FBT001, FBT002  torch's signature
    enforce_sorted: bool = True,  # noqa: FBT001, FBT002, ARG001
) -> Packed:
    if not isinstance(lengths, Tensor):
        raise ExportError(
            f"forward packs with lengths of type {type(lengths).__name__}; pass the tensor itself, so that the graph "
            "can take it as an input"
        )
    return Packed(input.transpose(0, 1) if batch_first else input, lengths)


def _pad(
    sequence: Packed,
    batch_first: bool = False,  # noqa: FBT001, FBT002  torch's signature
    padding_value: float = 0.0,
    total_length: int | torch.SymInt | None = None,
) -> tuple[Tensor, Tensor]:
    padded = sequence.padded
    steps = padded.shape[0]
    if total_length is not None and not statically_known_true(total_length == steps):
        raise ExportError(
            "forward gives pad_packed_sequence a total_length that is not its input's time axis; leave it out, or use "
            "x.size of the time axis"
        )
    if padding_value != 0.0:
        real = torch.arange(steps)[:, None] < sequence.lengths
        padded = torch.where(real.reshape(*real.shape, *[1] * (padded.dim() - 2)), padded, padding_value)
    return (padded.transpose(0, 1) if batch_first else padded), sequence.lengths


@contextmanager
def packing_replaced() -> Iterator[None]:
    """Put the stand-ins in the place of torch's two functions, in every module that holds them by any name."""
    replacements: dict[int, Callable[..., Any]] = {
        id(rnn.pack_padded_sequence): _pack,
        id(rnn.pad_packed_sequence): _pad,
    }
    places = [
        (names, name, value)
        for module in list(sys.modules.values())
        if (names := getattr(module, "__dict__", None)) is not None
        for name, value in list(names.items())
        if id(value) in replacements
    ]
    try:
        for names, name, value in places:
            names[name] = replacements[id(value)]
        yield
    finally:
        for names, name, value in places:
            names[name] = value
