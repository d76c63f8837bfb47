"""Who of nine men says /ae/: `python -m training.speaker --output DIR`.

Source of the data: Kudo, Toyama, Shimbo, "Multidimensional Curve Classification Using Passing-Through Regions", Pattern
Recognition Letters 20 (1999); see `data/README.md`.
"""

import sys
from functools import partial

from torch.nn import functional

from training import models
from training.classification import judge_classes
from training.datasets import japanese_vowels
from training.loop import Settings
from training.recipe import Recipe, main

RECIPE = Recipe(
    name="speaker",
    summary="Train a bidirectional LSTM to tell nine speakers by one utterance of 7 to 29 steps.",
    model=models.speaker,
    data=japanese_vowels,
    loss=functional.cross_entropy,
    judge=partial(judge_classes, "Speakers of Japanese vowels"),
    settings=Settings(),
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
