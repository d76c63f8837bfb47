"""The recipes' models, written as users write them: plain torch, nothing of the exporter's.

Each model standardises its own input, with a mean and a spread that are measured on the training rows and saved with
the weights, so that callers send and get real units.
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

SPEAKER_CHANNELS = 12
SPEAKERS = 9
WEATHER_FEATURES = 6
WEATHER_TARGETS = 2
HORIZON_DAYS = 5
DIGIT_PIXELS = 8
DIGITS = 10


class Standardise(nn.Module):
    """Values shifted and scaled to mean 0 and spread 1, by what `measure` saw; unchanged before that."""

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int) -> None:
        """Make room for `features` means and spreads; with 1, all features share them."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    def measure(self, values: Tensor) -> None:
        """Take mean and standard deviation of real steps, float32[steps, F]; of all values together if F is shared.

        Raises:
            ValueError: a feature never changes, so that it has no spread to divide by.
        """
        spread, mean = torch.std_mean(values.reshape(-1, len(self.mean)), dim=0)
        if not bool((spread > 0).all()):
            constant = torch.nonzero(~(spread > 0)).flatten().tolist()
            raise ValueError(f"features {constant} have no spread in the training rows; leave them out")
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32[..., F], standardised."""
        return (x - self.mean) / self.spread


class SpeakerIdentification(nn.Module):
    """Who speaks: a two-layer bidirectional LSTM, read where each direction has seen the whole utterance."""

    def __init__(self, *, channels: int, hidden: int, speakers: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(channels)
        self.lstm = nn.LSTM(channels, hidden, num_layers=2, bidirectional=True, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, speakers)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return logits float32[batch, speakers] of x float32[batch, time, channels], lengths int64[batch] (steps)."""
        packed = pack_padded_sequence(self.standardise(x), lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)
        both_directions = torch.cat([last[-2], last[-1]], dim=1)
        logits: Tensor = self.head(self.dropout(both_directions))
        return logits


class WeatherForecast(nn.Module):
    """The next days from the days so far: a two-layer causal LSTM, read at each row's last real step.

    The targets are the first features, so that one mean and spread serve both ends.
    """

    def __init__(self, *, features: int, hidden: int, days: int, targets: int, dropout: float) -> None:
        super().__init__()
        self.days, self.targets = days, targets
        self.standardise = Standardise(features)
        self.lstm = nn.LSTM(features, hidden, num_layers=2, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, days * targets)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return float32[batch, days, targets] in the units of x.

        x is float32[batch, time, features], lengths int64[batch] (steps).
        """
        y, _ = self.lstm(self.standardise(x))
        last = y[torch.arange(lengths.shape[0]), lengths - 1]
        forecast: Tensor = self.head(last).unflatten(1, (self.days, self.targets))
        return forecast * self.standardise.spread[: self.targets] + self.standardise.mean[: self.targets]


class DigitReader(nn.Module):
    """Which digit an image shows, read row by row from the top; every image has the same number of rows."""

    def __init__(self, *, pixels: int, hidden: int, digits: int, layers: int = 1) -> None:
        super().__init__()
        # One mean and spread for all pixels: those at the rim are nearly constant and would be blown up by their own.
        self.standardise = Standardise(1)
        self.lstm = nn.LSTM(pixels, hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, digits)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float32[batch, digits] of x float32[batch, time, pixels]."""
        y, _ = self.lstm(self.standardise(x))
        logits: Tensor = self.head(y[:, -1])
        return logits


def speaker() -> SpeakerIdentification:
    """Return the untrained model of `training.speaker`."""
    return SpeakerIdentification(channels=SPEAKER_CHANNELS, hidden=64, speakers=SPEAKERS, dropout=0.25)


def forecast() -> WeatherForecast:
    """Return the untrained model of `training.forecast`."""
    return WeatherForecast(
        features=WEATHER_FEATURES, hidden=64, days=HORIZON_DAYS, targets=WEATHER_TARGETS, dropout=0.25
    )


def digits() -> DigitReader:
    """Return the untrained model of `training.digits`."""
    return DigitReader(pixels=DIGIT_PIXELS, hidden=64, digits=DIGITS)


RecipeModel: TypeAlias = SpeakerIdentification | WeatherForecast | DigitReader
