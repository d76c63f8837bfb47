"""Room for so many calls at a time."""

import threading

from serving.errors import QueueFull


class Slots:
    """A number of places; who stops the server can wait until all have been given back."""

    def __init__(self, count: int, *, what: str, setting: str) -> None:
        """Offer so many places.

        Args:
            count: of them.
            what: takes them, for messages.
            setting: the flag that decides how many there are.
        """
        self._count = count
        self._what = what
        self._setting = setting
        self._taken = 0
        self._left = threading.Condition()

    def take(self) -> None:
        """Take a place, which `give_back` must follow.

        Raises:
            QueueFull: all are taken.
        """
        with self._left:
            if self._taken == self._count:
                raise QueueFull(f"{self._count} {self._what} already; retry later ({self._setting})")
            self._taken += 1

    def give_back(self) -> None:
        """Leave a place."""
        with self._left:
            self._taken -= 1
            if not self._taken:
                self._left.notify_all()

    def wait_empty(self, *, seconds: float) -> None:
        """Return when no place is taken, or when the seconds are over."""
        with self._left:
            self._left.wait_for(lambda: self._taken == 0, seconds)
