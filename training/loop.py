"""One training loop for all recipes: Adam, stepped decay, clipping, early stopping. Knows no data set, no console."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from training.datasets import DataSet, FloatArray, Part
from training.errors import TrainingError

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train.

    Attributes:
        epochs: most epochs to run.
        seed: of the initial weights, the order of rows and dropout.
        batch_rows: rows per optimiser step.
        learning_rate: Adam's first one.
        decay: what it is multiplied by every `decay_epochs`.
        weight_decay: the L2 penalty.
        clip_norm: the largest gradient norm that is passed to Adam.
        patience_epochs: epochs without a better validation loss after which to stop.
    """

    epochs: int = 100
    seed: int = 0
    batch_rows: int = 16
    learning_rate: float = 1e-3
    decay: float = 0.9
    decay_epochs: int = 3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    patience_epochs: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one pass over the training rows gave; the gradient norms are those before clipping."""

    number: int
    loss: float
    validation_loss: float
    gradient_norm_mean: float
    gradient_norm_max: float
    learning_rate: float


def train(
    model: nn.Module, data: DataSet, *, loss: Loss, settings: Settings, watch: Callable[[Epoch], None]
) -> tuple[Epoch, ...]:
    """Train the model, leave the weights of its best epoch in it, in evaluation mode, and return all epochs.

    Raises:
        TrainingError: the loss or its gradient became NaN or infinite.
    """
    torch.manual_seed(settings.seed)
    run = _Run(model, data, loss, settings)
    epochs: list[Epoch] = []
    for number in range(1, settings.epochs + 1):
        epochs.append(run.epoch(number))
        watch(epochs[-1])
        best = best_of(epochs)
        if best.number == number:
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
        if number - best.number >= settings.patience_epochs:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return tuple(epochs)


def best_of(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights are kept: the first with the smallest validation loss."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)


def answer(model: nn.Module, part: Part) -> Tensor:
    """Return the model's output for rows in one batch, with `lengths` if its forward takes them."""
    x, lengths = torch.from_numpy(part.x), torch.from_numpy(part.lengths)
    takes_lengths = "lengths" in inspect.signature(model.forward).parameters
    output: Tensor = model(x, lengths) if takes_lengths else model(x)
    return output


def answer_alone(model: nn.Module, part: Part) -> FloatArray:
    """Return the output of every row run alone and without padding, float32[rows, ...]: what serving must give."""
    with torch.no_grad():
        rows = [answer(model, part.take(np.array([row]))).numpy() for row in range(len(part))]
    return np.concatenate(rows)


class _Run:
    """The optimiser, the schedule and the order of rows of one training."""

    def __init__(self, model: nn.Module, data: DataSet, loss: Loss, settings: Settings) -> None:
        self.model, self.data, self.loss, self.settings = model, data, loss, settings
        self.order = np.random.default_rng(settings.seed)
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, settings.decay_epochs, settings.decay)

    def epoch(self, number: int) -> Epoch:
        """Go once over the training rows in a fresh order, then judge by the validation rows."""
        rate = float(self.schedule.get_last_lr()[0])
        rows = self.order.permutation(len(self.data.train))
        batches = np.array_split(rows, -(-len(rows) // self.settings.batch_rows))
        self.model.train()
        losses, norms = zip(*(self._step(self.data.train.take(batch), number) for batch in batches), strict=True)
        self.schedule.step()
        self.model.eval()
        with torch.no_grad():
            validation_loss = self._loss_of(self.data.validation)
        return Epoch(
            number=number,
            loss=float(np.average(losses, weights=[len(batch) for batch in batches])),
            validation_loss=_finite(validation_loss, "validation loss", number),
            gradient_norm_mean=float(np.mean(norms)),
            gradient_norm_max=max(norms),
            learning_rate=rate,
        )

    def _step(self, batch: Part, number: int) -> tuple[float, float]:
        """Change the weights once and return the batch's loss and gradient norm."""
        self.optimizer.zero_grad()
        value = self._loss_of(batch)
        loss = _finite(value, "training loss", number)
        value.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        gradient_norm = _finite(norm, "gradient norm", number)
        self.optimizer.step()
        return loss, gradient_norm

    def _loss_of(self, part: Part) -> Tensor:
        return self.loss(answer(self.model, part), torch.from_numpy(part.target))


def _finite(value: Tensor, what: str, number: int) -> float:
    if not bool(torch.isfinite(value)):
        raise TrainingError(
            f"the {what} became {value.item()} in epoch {number}; expected a finite number. Look for NaN or huge "
            "values in the data, or lower the learning rate or the clipping norm"
        )
    return value.item()
