"""How the recipes that name a class are judged: accuracy on the test rows, and per class where the errors are."""

import numpy as np
from rich.table import Table

from training.datasets import FloatArray, Part
from training.recipe import Judgement


def judge_classes(title: str, test: Part, logits: FloatArray) -> Judgement:
    """Compare logits float32[rows, classes] with the classes int64[rows]; the accuracy is the share of right rows."""
    predicted = logits.argmax(axis=1)
    right = predicted == test.target
    table = Table("class", "test rows", "recognised", title=title)
    classes = range(logits.shape[1])
    rows_of = np.bincount(test.target.astype(np.int64), minlength=len(classes))
    right_of = np.bincount(test.target[right].astype(np.int64), minlength=len(classes))
    for label in classes:
        table.add_row(str(label), str(rows_of[label]), str(right_of[label]))
    table.add_row("all", str(len(test)), str(right.sum()), style="bold")
    most_frequent = rows_of.max() / len(test)
    metrics = {
        "test_accuracy": float(right.mean()),
        "most_frequent_class_accuracy": float(most_frequent),
        "test_rows_right": int(right.sum()),
    }
    sentence = f"Test accuracy {right.mean():.1%}; always naming the most frequent class gives {most_frequent:.1%}."
    return Judgement(metrics=metrics, table=table, sentence=sentence)
