"""Virtual time: a heap of what happens when."""

import heapq
from collections.abc import Callable
from typing import Any, TypeVar

NANOSECONDS = 1_000_000_000
"""Of a second."""
Argument = TypeVar("Argument")


def to_ns(seconds: float) -> int:
    """Return whole nanoseconds."""
    return round(seconds * NANOSECONDS)


class Loop:
    """Runs actions in the order of their time, and those of one time in the order in which they were planned.

    So one seed gives one outcome. A heap and a counter: a framework for simulations (SimPy's processes are generators)
    takes several times as long per event, and nothing here waits for more than one thing.

    Attributes:
        now_ns: virtual time, nanoseconds; never goes back.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._planned: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._made = 0
        self._stopped = False

    def at(self, at_ns: int, action: Callable[[Argument], None], argument: Argument) -> None:
        """Plan an action.

        Args:
            at_ns: when it happens.
            action: what happens.
            argument: is handed to it.

        Raises:
            ValueError: that moment has passed.
        """
        if at_ns < self.now_ns:
            raise ValueError(f"an action was planned for {at_ns} ns, and it is {self.now_ns} ns already")
        self._made += 1
        heapq.heappush(self._planned, (at_ns, self._made, action, argument))

    def run(self) -> None:
        """Let everything happen that is planned, and what is planned meanwhile, until nothing is, or until `stop`."""
        planned, pop = self._planned, heapq.heappop
        while planned and not self._stopped:
            self.now_ns, _, action, argument = pop(planned)
            action(argument)

    def stop(self) -> None:
        """Let nothing happen any more."""
        self._stopped = True
