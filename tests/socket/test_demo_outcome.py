"""The demo's own verdict: it fails when the server's answers are worse than they may be."""

from dataclasses import replace

import numpy as np
import pytest

from training.demo.examples import EXAMPLES, accuracy, mean_absolute_error
from training.demo.outcome import Outcome

SPEAKER, FORECAST, _ = EXAMPLES
GOOD = Outcome(
    example=SPEAKER,
    rows=370,
    pytorch=0.96,
    fp32=0.96,
    int8=0.955,
    bytes_fp32=2,
    bytes_int8=1,
    seconds_fp32=1e-3,
    seconds_int8=1e-3,
)


@pytest.mark.parametrize(
    ("outcome", "problems"),
    [
        (GOOD, []),
        (replace(GOOD, int8=0.97), []),
        (replace(GOOD, fp32=0.957), ["speaker: FP32 gives 0.957, PyTorch 0.96"]),
        (replace(GOOD, int8=0.949), ["speaker: INT8 loses 1.10%"]),
        (replace(GOOD, example=FORECAST, pytorch=2.0, fp32=2.0, int8=2.01), []),
        (replace(GOOD, example=FORECAST, pytorch=2.0, fp32=2.0, int8=2.05), ["forecast: INT8 loses 2.50%"]),
    ],
)
def test_a_server_that_answers_worse_than_pytorch_is_a_problem(outcome: Outcome, problems: list[str]) -> None:
    assert outcome.problems == problems


def test_accuracy_is_the_share_of_rows_with_the_right_class() -> None:
    logits = np.array([[1, 3, 2], [9, 0, 0], [0, 0, 5], [0, 4, 5]], np.float32)

    assert accuracy(logits, np.array([1, 0, 2, 1])) == 0.75


def test_the_mean_absolute_error_is_over_rows_days_and_targets() -> None:
    assert mean_absolute_error(np.zeros((2, 5, 2), np.float32), np.full((2, 5, 2), -1.5, np.float32)) == 1.5
