"""What a student learns from: the targets and the teacher's answers, side by side in one array, and the loss on both.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531 (2015), for classes.
For numbers the squared distance from the teacher's answer takes the place of the softened probabilities.
"""

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.datasets import DataSet, FloatArray, Part, Targets
from training.loop import Loss, answer


class Teaching(ABC):
    """How targets and a teacher's answers are joined, told apart again, and learned from.

    Attributes:
        hard_share: weight of the loss with the targets; the loss with the teacher's answers has the rest.
    """

    hard_share: float

    def taught(self, data: DataSet, teacher: nn.Module) -> DataSet:
        """Return the data with the answers of a teacher in evaluation mode joined to the targets.

        The test part stays as it is: a student is judged by the targets alone.
        """

        def join(part: Part) -> Part:
            with torch.no_grad():
                answers = answer(teacher, part).numpy()
            return replace(part, target=self.join(part.target, answers))

        return DataSet(train=join(data.train), validation=join(data.validation), test=data.test)

    def loss(self, hard: Loss) -> Loss:
        """Return the loss of a student's output with joined targets; `hard` is the loss with the targets alone."""

        def both(output: Tensor, joined: Tensor) -> Tensor:
            target, answers = self.split(joined)
            return self.hard_share * hard(output, target) + (1 - self.hard_share) * self.soft(output, answers)

        return both

    @abstractmethod
    def join(self, target: Targets, answers: FloatArray) -> FloatArray:
        """Return targets and answers, float32[rows, ...], in one array float32[rows, ...]."""

    @abstractmethod
    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets and the answers of what `join` gave."""

    @abstractmethod
    def soft(self, output: Tensor, answers: Tensor) -> Tensor:
        """Return how far a student's output is from the teacher's answers, a scalar."""


class OfClasses(Teaching):
    """Logits float32[rows, classes] and classes int64[rows]: Kullback-Leibler divergence of softened probabilities.

    Neither number was tuned here. The temperature is from the paper's section 3 (between 2.5 and 4 is best for students
    much smaller than their teacher), the share from its section 2 (considerably lower than that of the soft loss).
    """

    temperature = 3.0
    hard_share = 0.1

    def join(self, target: Targets, answers: FloatArray) -> FloatArray:
        """Return float32[rows, classes + 1], the class behind the logits."""
        return np.column_stack([answers, target]).astype(np.float32)

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes int64[rows] and logits float32[rows, classes]."""
        return joined[:, -1].long(), joined[:, :-1]

    def soft(self, output: Tensor, answers: Tensor) -> Tensor:
        """Return the mean divergence in nats, times the squared temperature.

        So its gradient keeps its size beside that of the loss with the targets, whatever the temperature.
        """
        student, teacher = (functional.log_softmax(logits / self.temperature, dim=1) for logits in (output, answers))
        return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * self.temperature**2


class OfNumbers(Teaching):
    """Numbers float32[rows, ...], all in one unit: mean squared error."""

    hard_share = 0.5

    def join(self, target: Targets, answers: FloatArray) -> FloatArray:
        """Return float32[rows, 2, ...], targets first."""
        return np.stack([target, answers], axis=1).astype(np.float32)

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets and answers, float32[rows, ...] each."""
        target, answers = joined.unbind(dim=1)
        return target, answers

    def soft(self, output: Tensor, answers: Tensor) -> Tensor:
        """Return the mean squared error."""
        return functional.mse_loss(output, answers)
