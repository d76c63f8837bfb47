"""The kinds of requests, how many there are of each, and request number so-and-so of a kind."""

import os
from collections.abc import Sequence
from random import Random

from tests.fuzz import broken
from tests.fuzz.good import Target, good
from tests.fuzz.hostile import HOSTILE

INPUTS = int(os.environ.get("FUZZ_INPUTS", "100000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SHARES = {"good": 0.06, **dict.fromkeys(HOSTILE, 0.055), "damaged": 0.25, "fields": 0.09, "noise": 0.05}
STATES_FOR_STEPWISE = 0.8


def draw(targets: Sequence[Target], kind: str, number: int) -> tuple[Random, bytes]:
    """Return a request's bytes, and what to go on drawing with; the same for the same seed, kind and number."""
    rng = Random(f"{SEED}/{kind}/{number}")  # noqa: S311  repeatable
    target = rng.choice(targets)
    if kind == "good":
        return rng, good(rng, target).SerializeToString()
    if kind == "damaged":
        other = good(rng, rng.choice(targets))
        return rng, broken.damaged(rng, good(rng, target).SerializeToString(), other.SerializeToString())
    if kind == "fields":
        return rng, broken.fields(rng)
    if kind == "noise":
        return rng, broken.noise(rng)
    if kind == "states" and rng.random() < STATES_FOR_STEPWISE:
        target = next(target for target in targets if target.token is not None)
    return rng, HOSTILE[kind](rng, target).SerializeToString()
