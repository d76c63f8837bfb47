"""Ctrl-C that is never lost."""

import signal
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Context manager of the main thread: Ctrl-C raises `KeyboardInterrupt`, and is remembered if that came to nothing.

    What a signal's handler raises goes to whatever runs at that moment. If that is a callback in gRPC's core, Python
    can only print and forget it.
    """

    def __init__(self) -> None:
        """Have heard of none."""
        self._heard = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:  # as shells have it for what runs in the background
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise what was lost.

        Raises:
            KeyboardInterrupt: somebody has pressed Ctrl-C.
        """
        if self._heard:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
        signal.default_int_handler(number, frame)
