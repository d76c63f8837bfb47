"""One small model per family that the exporter must take, as users write them."""

import torch
from torch import Tensor, nn

from export.modules import BeamDecoder, ConvLSTM, GreedyDecoder, PeepholeLSTM
from tests.export.families import FAMILIES

FEATURES = 3
HIDDEN = 5
CLASSES = 4
WORDS = 11
SYMBOLS = 6
IMAGE = (2, 4, 5)
"""Channels, height and width."""


class AllCausal(nn.Module):
    """Two layers of every family, one direction, each on its own."""

    def __init__(self) -> None:
        super().__init__()
        layers = [make(FEATURES, HIDDEN, num_layers=2, batch_first=True) for make in FAMILIES.values()]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        answers = {}
        for index, layer in enumerate(self.layers):
            y, last = layer(x)
            h = last[0] if isinstance(last, tuple) else last
            answers |= {f"y{index}": y, f"h{index}": h[-1]}
        return answers


class Weather(nn.Module):
    """ConvLSTM over images: batch-first and time-major, one and two layers, a given state, and a read of the end."""

    def __init__(self) -> None:
        super().__init__()
        channels, height, width = IMAGE
        self.first = ConvLSTM(channels, 3, num_layers=2, batch_first=True)
        self.second = ConvLSTM(3, 2, kernel_size=1, bias=False)
        self.start = nn.Parameter(torch.rand(2, 1, 1, 2, height, width) - 0.5)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y, (_, c) = self.first(x)
        h0, c0 = self.start.expand(-1, -1, x.shape[0], -1, -1, -1).unbind()
        z, (h, _) = self.second(y.transpose(0, 1), (h0, c0))
        return {"y": y, "z": z, "c": c[-1], "last": self.norm(y[:, -1]), "h": h[0]}


class CausalWeather(nn.Module):
    """Two layers of ConvLSTM with a convolution as head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = ConvLSTM(IMAGE[0], 3, num_layers=2, batch_first=True)
        self.head = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)[0]
        return self.head(y.flatten(0, 1)).unflatten(0, y.shape[:2])


class ResidualStack(nn.Module):
    """Residual recurrent layers with LayerNorm and BatchNorm between them; BatchNorm has seen data."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, HIDDEN)
        self.layers = nn.ModuleList([nn.LSTM(HIDDEN, HIDDEN, batch_first=True), nn.GRU(HIDDEN, HIDDEN)])
        self.peephole = PeepholeLSTM(HIDDEN, HIDDEN, batch_first=True)
        self.layer_norm = nn.LayerNorm(HIDDEN)
        self.batch_norm = nn.BatchNorm1d(HIDDEN)
        self.batch_norm.running_mean.uniform_(-1, 1)
        self.batch_norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        x = self.layer_norm(x + self.layers[0](x)[0])
        x = x + self.layers[1](x.transpose(0, 1))[0].transpose(0, 1)
        x = self.batch_norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.peephole(x)[0]


class Acoustic(nn.Module):
    """Five bidirectional layers to CTC log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, num_layers=5, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * HIDDEN, SYMBOLS)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y, _ = self.lstm(x)
        return {"log_probs": self.fc(y).log_softmax(-1)}


class Tagger(nn.Module):
    """Token ids to a label per token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, FEATURES, padding_idx=0)
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(self.words(tokens))
        scores = self.fc(y)
        return scores, scores.argmax(-1)


class AttentionClassifier(nn.Module):
    """Attention over the steps of an LSTM, written without a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * HIDDEN, 1)
        self.fc = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        weights = self.score(torch.tanh(y)).softmax(dim=1)
        return self.fc((weights * y).sum(dim=1))


class MaskedAttentionClassifier(AttentionClassifier):
    """The same with lengths in the signature and a mask written by hand."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        y, _ = self.lstm(x)
        real = torch.arange(x.shape[1]) < lengths[:, None]
        scores = self.score(torch.tanh(y)).squeeze(-1).masked_fill(~real, -torch.inf)
        return self.fc(torch.einsum("bt,bth->bh", scores.softmax(dim=1), y))


class Translator(nn.Module):
    """Bidirectional encoder, decoder with attention over its real steps; the last token of the vocabulary ends."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, FEATURES)
        self.encoder = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.cell = nn.LSTMCell(FEATURES + 2 * HIDDEN, 2 * HIDDEN)
        self.score = nn.Linear(4 * HIDDEN, WORDS)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        del lengths  # the exporter hands them to the layer, and alone a row has no padding
        y, (h, c) = self.encoder(self.words(source))
        return (y,), (h.transpose(0, 1).flatten(1), c.transpose(0, 1).flatten(1))

    def step(
        self, tokens: Tensor, state: tuple[Tensor, ...], memory: tuple[Tensor, ...], real: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        (y,), (h, c) = memory, state
        weights = (y @ h[..., None]).squeeze(-1).masked_fill(~real, -torch.inf).softmax(-1)
        context = (weights[:, None] @ y).squeeze(1)
        h, c = self.cell(torch.cat([self.words(tokens), context], dim=-1), (h, c))
        return self.score(torch.cat([h, context], dim=-1)), (h, c)


def greedy_translator() -> nn.Module:
    """Return the translator as it is exported for greedy search."""
    return GreedyDecoder(Translator(), start=0, end=WORDS - 1, limit=6)


def beam_translator() -> nn.Module:
    """Return the translator as it is exported for beam search."""
    return BeamDecoder(Translator(), start=0, end=WORDS - 1, limit=6, width=3)
