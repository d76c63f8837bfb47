"""Every recurrent layer in every form, each called plain, packed and with a given state, in one model per family."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from export.modules import PeepholeLSTM

FEATURES = 3
HIDDEN = 5
PROJECTION = 2
WAYS = ("plain", "packed", "given")
Layer = nn.RNNBase | PeepholeLSTM
FAMILIES: dict[str, Callable[..., Layer]] = {
    "LSTM": nn.LSTM,
    "LSTM with projection": lambda *args, **kwargs: nn.LSTM(*args, **kwargs, proj_size=PROJECTION),
    "GRU": nn.GRU,
    "RNN tanh": nn.RNN,
    "RNN relu": lambda *args, **kwargs: nn.RNN(*args, **kwargs, nonlinearity="relu"),
    "Peephole LSTM": PeepholeLSTM,
}


SHAPES = ((1, 1, True), (1, 2, False), (2, 1, False), (2, 2, True), (1, 5, True), (2, 5, False))
"""Directions, layers, batch_first: every pair of values of two of them occurs."""


def forms(family: str) -> Iterator[tuple[str, Layer, bool]]:
    """Give each form's name, a layer of it, and whether it packs with enforce_sorted."""
    for index, (directions, depth, batch_first) in enumerate(SHAPES):
        bias, is_sorted = index in {0, 1, 3, 4}, index in {1, 2, 4}
        name = f"{directions}dir_{depth}layer_{'bias' if bias else 'nobias'}_{'batch' if batch_first else 'time'}first"
        dropout = 0.5 if depth == 5 else 0.0
        layer = FAMILIES[family](
            FEATURES,
            HIDDEN,
            num_layers=depth,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=directions == 2,
        )
        yield name, layer, is_sorted


class Zoo(nn.Module):
    """All forms of one family."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.layers, self.starts, self.is_sorted = nn.ModuleDict(), nn.ParameterDict(), {}
        spread = 0.6 if family == "RNN relu" else 0.9  # whose values have no bound
        for name, layer, is_sorted in forms(family):
            for weight in layer.parameters():
                nn.init.uniform_(weight, -spread, spread)  # five layers of torch's small ones would fade to nothing
            self.layers[name], self.is_sorted[name] = layer, is_sorted
            states = layer.num_layers * (2 if layer.bidirectional else 1)
            projected = getattr(layer, "proj_size", 0) or HIDDEN
            self.starts[f"{name}_h"] = nn.Parameter(torch.rand(states, 1, projected) - 0.5)
            self.starts[f"{name}_c"] = nn.Parameter(torch.rand(states, 1, HIDDEN) - 0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        answers: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            first = layer.batch_first
            given = x if first else x.transpose(0, 1)
            packed = pack_padded_sequence(given, lengths.cpu(), first, enforce_sorted=self.is_sorted[name])
            y, state = layer(packed)
            results = {
                "plain": layer(given),
                "packed": (pad_packed_sequence(y, batch_first=first)[0], state),
                "given": layer(given, self._start(name, layer, x.shape[0])),
            }
            for way, (steps, last) in results.items():
                answers[f"{name}_{way}_y"] = steps
                states = last if isinstance(last, tuple) else (last,)
                answers |= {f"{name}_{way}_{letter}": part for letter, part in zip("hc", states, strict=False)}
        return answers

    def _start(self, name: str, layer: nn.Module, batch: int) -> Tensor | tuple[Tensor, Tensor]:
        h, c = (self.starts[f"{name}_{letter}"].expand(-1, batch, -1).contiguous() for letter in "hc")
        return (h, c) if isinstance(layer, nn.LSTM | PeepholeLSTM) else h
