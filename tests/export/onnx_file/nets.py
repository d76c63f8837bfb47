"""Small models as people export them to ONNX, each for one property of a file."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FEATURES = 3
HIDDEN = 5


class LastAndSteps(nn.Module):
    """Bidirectional; its two layers lie in Reshapes with the batch and the time in them."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * HIDDEN, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1]), self.fc(y)


class TimeMajor(nn.Module):
    """Takes and gives [time, batch, ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, HIDDEN, num_layers=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, _) = self.rnn(x)
        return y, y[-1], h


class Stateful(nn.Module):
    """Takes and gives h and c, as one does to run it step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True)
        self.fc = nn.Linear(HIDDEN, 4)

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h0, c0))
        return self.fc(y), h, c


class Pools(nn.Module):
    """Mean, maximum and attention over time, all of which padding would change."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * HIDDEN, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, _ = self.gru(x)
        weights = torch.softmax(self.score(y), dim=1)
        return y.mean(1), y.max(1).values, (weights * y).sum(1)


class SelfAttention(nn.Module):
    """Every step looks at every other."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        weights = torch.softmax(y @ y.transpose(1, 2), dim=-1)
        result: Tensor = weights @ y
        return result


class Packed(nn.Module):
    """Packs, so that the file has lengths already."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(x, lens, batch_first=True, enforce_sorted=True)
        y, (h, _) = self.lstm(packed)
        return pad_packed_sequence(y, batch_first=True)[0], h


class Tagger(nn.Module):
    """Words in, scores per step out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, FEATURES)
        self.rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.rnn(self.words(tokens))
        scores: Tensor = self.fc(y.reshape(-1, HIDDEN)).view(tokens.shape[0], tokens.shape[1], 4)
        return scores


class Convolved(nn.Module):
    """Channels first: a convolution that looks one step ahead, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 4, 3, padding=1)
        self.gru = nn.GRU(4, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(self.conv(x).transpose(1, 2))[0]
        return y


class Squeezed(nn.Module):
    """Drops the batch of 1 from its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        result: Tensor = self.fc(y).squeeze()
        return result


class ZerosByNumber(nn.Module):
    """Makes its zeros with a number, which a trace keeps for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, int(x.size(0)), HIDDEN)
        y: Tensor = self.lstm(x, (zeros, zeros))[0]
        return y


class FixedPosition(nn.Module):
    """Adds a position for each of seven steps."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 7, FEATURES))
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x + self.positions)[0]
        return y


class MaskedMean(nn.Module):
    """Takes lengths for its mask only; the layer itself is causal and knows none."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, seq_len: Tensor) -> Tensor:
        y, _ = self.gru(x)
        real = (torch.arange(x.shape[1])[None] < seq_len[:, None]).float()
        mean: Tensor = (y * real[..., None]).sum(1) / seq_len[:, None]
        return mean


class BidirectionalStates(nn.Module):
    """Takes and gives states that no chunk could carry."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.gru(x, h0)
        return y, h
