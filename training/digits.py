"""Handwritten digits read row by row: `python -m training.digits --output DIR`.

Source of the data: scikit-learn's `load_digits`, a part of "Optical Recognition of Handwritten Digits" of the UCI
Machine Learning Repository.
"""

import sys
from functools import partial

from torch.nn import functional

from training import datasets, models
from training.classification import judge_classes
from training.loop import Settings
from training.recipe import Recipe, main

RECIPE = Recipe(
    name="digits",
    summary="Train an LSTM that reads images of handwritten digits as 8 rows of 8 pixels.",
    model=models.digits,
    data=datasets.digits,
    loss=functional.cross_entropy,
    judge=partial(judge_classes, "Handwritten digits"),
    settings=Settings(),
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
