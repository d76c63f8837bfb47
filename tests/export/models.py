"""Small models as users write them, each for one property of the exporter."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

FEATURES = 3
HIDDEN = 5


class Last(nn.Module):
    """Reads the last step of a forward without lengths, as most tutorials do; bidirectional."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * HIDDEN, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1]), y[:, y.size(1) - 1, :2]


class TimeMajor(nn.Module):
    """Takes and gives [time, batch, ...], reads y[-1], and has lengths in its signature."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, HIDDEN, num_layers=2)

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        y, (h, _) = self.rnn(x)
        return {"steps": y, "last": y[-1], "h": h, "length": lengths}


class Causal(nn.Module):
    """Two causal layers with a hidden state of zeros given by hand, and a head on every step and on the last."""

    def __init__(self, hidden: int = HIDDEN, classes: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(2, x.size(0), self.lstm.hidden_size)
        y, (h, _) = self.lstm(x, (zeros, zeros))
        return self.fc(y), h[-1]


class Wide(Causal):
    """Wide enough that torch's own lowering would leave the weights unquantizable, with a head worth quantizing."""

    def __init__(self) -> None:
        super().__init__(hidden=256, classes=2000)


class MaskedMean(nn.Module):
    """Right in any batch, but the mean of a chunk is not the mean of the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        real = (torch.arange(x.size(1))[None] < steps[:, None]).float()
        return (y * real[..., None]).sum(1) / steps[:, None]


class EncoderDecoder(nn.Module):
    """The second layer starts from the first one's last state, and takes words and one vector per row as well."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, FEATURES)
        self.encoder = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.decoder = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        _, state = self.encoder(x)
        y: Tensor = self.decoder(self.words(tokens), state)[0]
        return y + bias[:, None]


class Squeezes(nn.Module):
    """Drops the batch axis of a single row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y.squeeze()


class FixedBatch(nn.Module):
    """Has the batch written into a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y.reshape(3, -1, HIDDEN)


class ReadsPackedData(nn.Module):
    """Looks inside a packed sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y: Tensor = self.lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0].data
        return y


class TwoAxesOfTime(nn.Module):
    """Gives every step's product with every other, which no wire tensor can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y @ y.transpose(1, 2)


class NoRecurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        return y


def interrupted() -> nn.Module:
    raise KeyboardInterrupt


def failing() -> nn.Module:
    raise RuntimeError("no such checkpoint folder")


def not_a_model() -> int:
    return 3


class FrozenBatch(nn.Module):
    """Makes a number of the batch's size: right in PyTorch, one batch size for ever in a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        last: Tensor = y[torch.arange(len(lengths)), lengths - 1]
        return last


class Scaled(nn.LSTM):
    """A layer of the user's own that does something around torch's."""

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        y, state = super().forward(2 * x, hx)
        return 3 * y, state


class OwnLayers(nn.Module):
    """A subclass with a forward of its own, weights by parametrization, and one layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.normed = weight_norm(nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True), "weight_hh_l0")
        self.twice = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.normed(self.scaled(x)[0])[0]
        once, state = self.twice(y)
        return {"y": y, "twice": self.twice(once, state)[0]}


class DegenerateProjection(nn.Module):
    """A projection with two equal rows, with and without a state given by forward."""

    def __init__(self, *, given: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, proj_size=2, batch_first=True)
        self.lstm.weight_hr_l0.data[1] = self.lstm.weight_hr_l0.data[0]
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        ones = torch.ones(1, x.shape[0], HIDDEN)
        y: Tensor = self.lstm(x, (ones[..., :2].contiguous(), ones) if self.given else None)[0]
        return y
