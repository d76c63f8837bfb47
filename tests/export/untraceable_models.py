"""Models that cannot be traced with batch and time free, each for one cause."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  torch's own abbreviation

from tests.export.padding_models import FEATURES, HIDDEN


class Loop(nn.Module):
    """A loop over cells."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.cell = nn.GRUCell(HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        h = y.new_zeros(y.size(0), HIDDEN)
        for t in range(y.size(1)):
            h = self.cell(y[:, t], h)
        return h


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return self.read(y, lengths)

    def read(self, y: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


class LoopOverLongest(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:
        total = torch.zeros_like(y[:, 0])
        for t in range(int(lengths.max())):
            total = total + y[:, t]
        return total


class ListOfLengths(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack([y[i, :n].mean(0) for i, n in enumerate(lengths.tolist())])


class Item(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:
        longest = lengths.max().item()
        return y[:, : int(longest)].mean(1)


class Condition(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        if y.sum() > 0:
            return y[:, -1]
        return y[:, 0]


class ConditionOnSize(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        if y.size(1) > 5:
            return y[:, :5].sum(1)
        return y.sum(1)


class FrozenBatch(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.arange(len(lengths))
        return y[rows, lengths - 1]


class FixedBatch(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        return y.reshape(3, -1, HIDDEN)


class RootOfSize(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        return y.sum(1) / math.sqrt(y.size(1))


class PooledIntoParts(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        return F.adaptive_avg_pool1d(y.transpose(1, 2), 2)


class NoOnnxForm(Untraceable):
    def read(self, y: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        grown: Tensor = torch.linalg.matrix_exp(y.transpose(1, 2) @ y)
        return grown


class Asserting(nn.Module):
    """Checks the size of what it is given, as careful users do."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        assert x.size(1) <= 512
        y: Tensor = self.lstm(x)[0]
        return y
