"""How far the thread that takes calls is behind, and whom that costs too much."""

from collections import deque

from serving.clock import NANOSECONDS_PER_SECOND

LEAST_NS = 5 * NANOSECONDS_PER_SECOND // 1000
"""A burst of callers takes so long on a server that keeps up."""
RECENT = 4
"""Waits that must agree: a client that sends its message long after the call looks like a queue, but only once."""
SHARE = 5
"""A call that has waited for more than one part in so many of its time is refused."""


def behind(lag_ms: object) -> str:
    """Return what is told to a call that is refused because the thread is so many milliseconds behind."""
    return (
        f"more calls come than this server can take, and it is {lag_ms} ms behind, too much for this deadline; "
        f"retry after {lag_ms} ms, or on another replica"
    )


class Lag:
    """What messages waited for the thread lately, although they had come.

    When more calls come than the thread can take, they queue inside gRPC core, first come first served, until most of
    each one's time is over when its turn comes: then every call costs its full price, and hardly any is answered in
    time. A call that is refused before its message is read costs about a third of that, so the queue stays short.
    Source: the queue disciplines of CoDel (RFC 8289), with the time that each call has in place of a fixed target.
    """

    def __init__(self) -> None:
        self._waits = deque([0] * RECENT, maxlen=RECENT)
        self.ns = 0
        """The least of the recent waits; 0 when nothing waits."""

    @property
    def matters(self) -> bool:
        """Whether it is more than a burst makes."""
        return self.ns > LEAST_NS

    def saw(self, wait_ns: int) -> None:
        """Take how long a message waited."""
        self._waits.append(wait_ns)
        self.ns = min(self._waits)

    def caught_up(self) -> None:
        """Take that nothing waits."""
        self._waits.extend([0] * RECENT)
        self.ns = 0

    def refuses(self, left_ns: int) -> bool:
        """Return whether a call that has so much time left now has waited too long already."""
        return self.matters and SHARE * self.ns > self.ns + left_ns
