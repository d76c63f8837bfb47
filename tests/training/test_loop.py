"""The training loop: its schedule, when it stops, what it keeps, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.datasets import DataSet, Part
from training.errors import TrainingError
from training.loop import Epoch, Settings, answer_alone, best_of, train


class LastStep(nn.Module):
    """A linear read of the last step of rows of one length, with a little dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.01)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.dropout(x[:, -1]))
        return answer


def rows(count: int, *, seed: int, noise: float = 0.1) -> Part:
    """Return rows whose target is the sum of their last step, with noise."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, 4, 3)).astype(np.float32)
    target = x[:, -1].sum(axis=1, keepdims=True) + noise * random.standard_normal((count, 1))
    return Part(x=x, lengths=np.full(count, 4), target=target.astype(np.float32))


def problem(*, validation: Part | None = None) -> DataSet:
    return DataSet(train=rows(64, seed=1), validation=validation or rows(32, seed=2), test=rows(8, seed=3))


def run(
    data: DataSet, settings: Settings, watch: Callable[[Epoch], None] = lambda _: None
) -> tuple[LastStep, tuple[Epoch, ...]]:
    torch.manual_seed(0)
    model = LastStep()
    return model, train(model, data, loss=functional.mse_loss, settings=settings, watch=watch)


def test_the_loss_falls_and_every_epoch_is_shown_once() -> None:
    seen: list[Epoch] = []
    _, epochs = run(problem(), Settings(epochs=30, learning_rate=0.05), seen.append)

    assert tuple(seen) == epochs
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert best_of(epochs).validation_loss < 0.1 * epochs[0].loss


def test_the_learning_rate_falls_by_a_tenth_every_three_epochs() -> None:
    _, epochs = run(problem(), Settings(epochs=7))

    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([1e-3] * 3 + [9e-4] * 3 + [8.1e-4])


def test_training_stops_five_epochs_after_the_best_and_keeps_its_weights() -> None:
    """With validation targets that contradict the training ones, every further epoch is a worse one."""
    against = rows(32, seed=2)
    data = problem(validation=Part(x=against.x, lengths=against.lengths, target=-against.target))
    weights: list[Tensor] = []
    torch.manual_seed(0)
    model = LastStep()
    settings = Settings(epochs=50, learning_rate=0.05)

    epochs = train(
        model,
        data,
        loss=functional.mse_loss,
        settings=settings,
        watch=lambda _: weights.append(model.head.weight.detach().clone()),
    )

    assert len(epochs) == best_of(epochs).number + settings.patience_epochs
    assert len(epochs) < settings.epochs
    assert torch.equal(model.head.weight, weights[best_of(epochs).number - 1])
    assert not torch.equal(model.head.weight, weights[-1])
    assert not model.training
    kept = float(np.mean((answer_alone(model, data.validation) - data.validation.target) ** 2))
    assert kept == pytest.approx(best_of(epochs).validation_loss, rel=1e-5)


def test_gradients_are_clipped_and_their_norms_recorded_as_they_were() -> None:
    """Adam at its first step moves each weight by the learning rate, unless clipping has made the gradient vanish."""
    clipped, epochs = run(problem(), Settings(epochs=1, batch_rows=64, clip_norm=1e-12, weight_decay=0.0))
    torch.manual_seed(0)
    start = LastStep()

    assert epochs[0].gradient_norm_max > 0.1
    assert epochs[0].gradient_norm_mean <= epochs[0].gradient_norm_max
    assert (clipped.head.weight - start.head.weight).abs().max() < 1e-6


def test_weight_decay_pulls_towards_zero() -> None:
    free, _ = run(problem(), Settings(epochs=40, learning_rate=0.05, weight_decay=0.0))
    held, _ = run(problem(), Settings(epochs=40, learning_rate=0.05, weight_decay=1.0))

    assert held.head.weight.norm() < free.head.weight.norm()


def test_one_seed_gives_one_result_and_another_gives_another() -> None:
    """Whatever random numbers were drawn before: the loop seeds the order of rows and dropout itself."""
    torch.manual_seed(0)
    start = LastStep().state_dict()
    _, first = run(problem(), Settings(epochs=3, seed=5))
    torch.manual_seed(99)
    model = LastStep()
    model.load_state_dict(start)
    again = train(model, problem(), loss=functional.mse_loss, settings=Settings(epochs=3, seed=5), watch=lambda _: None)
    _, other = run(problem(), Settings(epochs=3, seed=6))

    assert first == again
    assert first != other


@pytest.mark.parametrize(("part", "what"), [("train", "training loss"), ("validation", "validation loss")])
def test_a_loss_that_is_not_finite_is_an_error_that_names_the_epoch(part: str, what: str) -> None:
    data = problem()
    getattr(data, part).x[5, -1, 0] = np.nan

    with pytest.raises(TrainingError, match=f"the {what} became nan in epoch 1; expected a finite number"):
        run(data, Settings(epochs=2))


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    """The square root has a finite value and an infinite slope at zero."""
    torch.manual_seed(0)
    model = LastStep()

    with pytest.raises(TrainingError, match="the gradient norm became"):
        train(
            model,
            problem(),
            loss=lambda output, _: (output * 0).abs().sum().sqrt(),
            settings=Settings(epochs=1),
            watch=lambda _: None,
        )
