"""Metrics and data as a user would write them, named on the command line by the tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, Sequence[Any]]
ROWS = 40


def labelled() -> dict[str, Any]:
    """Return sequences of three features with a label each: whether their mean is positive."""
    rng = np.random.default_rng(0)
    x, lengths = rng.normal(size=(ROWS, 20, 3)), rng.integers(1, 21, ROWS)
    labels = [int(row[:steps].mean() > 0) for row, steps in zip(x, lengths, strict=True)]
    return {"x": x, "lengths": lengths, "labels": np.array(labels)}


def unlabelled() -> dict[str, Any]:
    """Return the same without labels."""
    return {name: array for name, array in labelled().items() if name != "labels"}


def accuracy(outputs: Arrays, data: Arrays) -> float:
    """Return the share of rows whose first value of `last` has the sign that the label says."""
    rights = [int(last[0] > 0) == label for last, label in zip(outputs["last"], data["labels"], strict=True)]
    return sum(rights) / len(rights)


def error(outputs: Arrays, data: Arrays) -> float:
    """Return the mean distance of `last` from its label, over the real steps; lower is better."""
    assert [len(steps) for steps in outputs["steps"]] == [int(steps) for steps in data["lengths"]]
    assert [x.shape for x in data["x"]] == [(int(steps), 3) for steps in data["lengths"]]
    return float(np.mean([abs(last[0] - label) for last, label in zip(outputs["last"], data["labels"], strict=True)]))


error.higher_is_better = False  # type: ignore[attr-defined]  how a metric says so


def failing(outputs: Arrays, data: Arrays) -> float:
    """Ask for an array that is not there."""
    return float(outputs["absent"][0] + data["absent"][0])


def infinite(outputs: Arrays, data: Arrays) -> float:
    """Return no number that can be compared."""
    del outputs, data
    return float("nan")
