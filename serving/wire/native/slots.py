"""Room for requests at a time, counted by the library: those that it serves itself and those that Python serves."""

from serving.errors import ClientLimit, QueueFull
from serving.wire.native.library import load_library
from serving.wire.slots import Slots

TAKEN, FULL = 0, 1


class NativeSlots(Slots):
    """The same rule and the same words, kept in C++."""

    def __init__(self, count: int, *, what: str, setting: str, per_client: int | None = None) -> None:
        """Offer so many places; see `Slots`."""
        super().__init__(count, what=what, setting=setting, per_client=per_client)
        self._library = load_library()
        self.handle = self._library.slots_open(count, per_client or 0)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.slots_close(self.handle)

    def take(self, client: str = "") -> None:
        """Take a place for a client, which `give_back` must follow; see `Slots`."""
        taken = self._library.slots_take(self.handle, client.encode())
        if taken == FULL:
            raise QueueFull(self.full)
        if taken != TAKEN:
            raise ClientLimit(self.client_full(client))

    def give_back(self, client: str = "") -> None:
        """Leave a client's place."""
        self._library.slots_give_back(self.handle, client.encode())

    def wait_empty(self, *, seconds: float) -> None:
        """Return when no place is taken, or when the seconds are over."""
        self._library.slots_wait_empty(self.handle, seconds)
