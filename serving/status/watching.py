"""Looks at a server again and again, and shows what it did in between."""

import time

from serving.status.arguments import Options
from serving.status.calls import Calls
from serving.status.drawing import Screen
from serving.status.errors import CannotLook
from serving.status.figures import Moment
from serving.status.looking import Look, look
from serving.status.view import View, gone, view


def watch(options: Options) -> None:
    """Show one picture, or one after the other until somebody interrupts.

    Raises:
        CannotLook: the server cannot be seen; only of the first look, since one that was seen may come back.
        KeyboardInterrupt: somebody has enough.
    """
    with Calls(options.target) as calls:
        sight = _Sight(options, calls)
        first = sight.look()
        if options.once:
            if options.interval is not None:
                sight.compare(first)
                time.sleep(options.interval)
                first = sight.look()
            with Screen(stays=True) as screen:
                screen.show(sight.view(first))
            return
        assert options.interval is not None, "there is one unless --once is given"
        with Screen(stays=False) as screen:
            screen.show(sight.view(first))
            due = time.monotonic()
            while True:
                due = max(due + options.interval, time.monotonic())  # looks that take longer are not caught up with
                time.sleep(max(0.0, due - time.monotonic()))
                screen.show(sight.next(options.interval))


class _Sight:
    """Remembers what was seen last, to compare with it."""

    def __init__(self, options: Options, calls: Calls) -> None:
        self._target = options.target
        self._calls = calls
        self._before: dict[bool, Moment] = {}
        """By whether they have all of the metrics: what the calls tell is counted otherwise."""

    def look(self) -> Look:
        return look(self._target, self._calls)

    def compare(self, seen: Look) -> Moment | None:
        """Return what to compare a look with, and remember it for the next."""
        before = self._before.get(seen.whole)
        if seen.moment is not None:
            self._before[seen.whole] = seen.moment
        return before

    def view(self, seen: Look) -> View:
        return view(self._target.address, seen, self.compare(seen))

    def next(self, seconds: float) -> View:
        """Look again; a server that cannot be seen now may come back."""
        try:
            return self.view(self.look())
        except CannotLook as error:
            return gone(self._target.address, str(error), seconds)
