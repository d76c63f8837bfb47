"""Room for so many calls at a time, and for so many of one client's."""

import threading

from serving.errors import ClientLimit, QueueFull


class Slots:
    """A number of places; who stops the server can wait until all have been given back."""

    def __init__(self, count: int, *, what: str, setting: str, per_client: int | None = None) -> None:
        """Offer so many places.

        Args:
            count: of them.
            what: takes them, for messages.
            setting: the flag that decides how many there are.
            per_client: of them that one client may have at a time; None for all.
        """
        self.count = count
        self.full = f"{count} {what} already; retry later ({setting})"
        """What is told to who finds no place."""
        self._what = what
        self.per_client = per_client
        self._taken = 0
        self._taken_by: dict[str, int] = {}
        """Clients that have places, and how many; kept only if they are limited."""
        self._left = threading.Condition()

    def client_full(self, client: str) -> str:
        """Return what is told to a client that has all places that one may have."""
        return (
            f"{self.per_client} {self._what} already for client '{client}'; retry when one is answered "
            "(--max-inflight-per-client)"
        )

    def take(self, client: str = "") -> None:
        """Take a place for a client, which `give_back` must follow.

        Raises:
            ClientLimit: it has as many as one client may have.
            QueueFull: all are taken.
        """
        with self._left:
            if self._taken == self.count:
                raise QueueFull(self.full)
            if self.per_client is not None:
                taken = self._taken_by.get(client, 0)
                if taken == self.per_client:
                    raise ClientLimit(self.client_full(client))
                self._taken_by[client] = taken + 1
            self._taken += 1

    def give_back(self, client: str = "") -> None:
        """Leave a client's place."""
        with self._left:
            if self.per_client is not None:
                taken = self._taken_by.pop(client)
                if taken > 1:
                    self._taken_by[client] = taken - 1
            self._taken -= 1
            if not self._taken:
                self._left.notify_all()

    def wait_empty(self, *, seconds: float) -> None:
        """Return when no place is taken, or when the seconds are over."""
        with self._left:
            self._left.wait_for(lambda: self._taken == 0, seconds)
