"""Waiting for the signal that ends the server."""

import signal
import socket


def end_at_sigterm() -> None:
    """Have SIGTERM raise SystemExit(0) in the main thread: what is still loading has accepted nothing, to be drained.

    Without a handler, the kernel sends SIGTERM to every process but the first of a container.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)


class StopSignal:
    """SIGTERM or SIGINT, once; a second SIGINT (an impatient Ctrl-C) kills.

    The kernel may hand a signal to any thread, and Python runs handlers in the main thread only, when it next wakes. So
    the main thread waits on the wake-up descriptor, which is written in whichever thread the signal arrives.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self, *, seconds: float | None = None) -> int | None:
        """Block the main thread until a signal, and return its number; None when the seconds are over first."""
        self._read.settimeout(seconds)
        try:
            number = self._read.recv(1)[0]
        except TimeoutError:
            return None
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return number
