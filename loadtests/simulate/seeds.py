"""One seed for a run, and many for its parts."""

import random


class Seeds:
    """Seeds that follow from one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret

    def next(self) -> int:
        """Return another seed."""
        return self._random.getrandbits(32)

    def uniform(self) -> float:
        """Return a number from 0 to 1."""
        return self._random.random()
