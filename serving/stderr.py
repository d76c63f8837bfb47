"""Lines to stderr for which nobody waits: whoever reads them may be slow or gone, or the disk that takes them full.

A write to a pipe that nobody empties blocks, and so would whoever logs, with the locks that it holds: a collector of
logs that stalls would stop the server. So a thread writes, and what it cannot write is counted and left out.
"""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

DESCRIPTOR = 2
MAX_WAITING_BYTES = 2**20
"""Lines that may wait for the thread; a reader that pauses for some seconds costs none."""


class LineWriter:
    """Writes lines in the order in which they came, on a thread of its own.

    If the process is killed or crashes, the last moments' lines are lost with it. Ends that are in order `flush`.
    """

    def __init__(
        self, descriptor: int, *, notice: Callable[[int], bytes], max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        """Begin.

        Args:
            descriptor: to write to.
            notice: makes the line that says how many before it were lost.
            max_waiting_bytes: lines that would make it more are lost.
        """
        self._descriptor = descriptor
        self._notice = notice
        self._max_waiting_bytes = max_waiting_bytes
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._untold = 0
        self._torn = False
        """Whether the last line that was begun lacks its end."""
        self._changed = threading.Condition()
        self.lost = 0
        """Lines that were left out, because too many waited or because they could not be written."""
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Have a line written, its newline included, or lost; never waits for either."""
        with self._changed:
            if self._waiting_bytes + len(line) > self._max_waiting_bytes:
                self._lose()
                return
            self._waiting_bytes += len(line)
            self._lines.append(line)
            self._changed.notify_all()

    def flush(self, *, seconds: float) -> bool:
        """Wait until nothing waits, but no longer than so many seconds; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines[0]  # and stays there until it is written, for `flush` to see
                last = len(self._lines) == 1
            written = self._write(line)
            if last and written:
                self._tell()
            with self._changed:
                self._lines.popleft()
                self._waiting_bytes -= len(line)
                if not written:
                    self._lose()
                self._changed.notify_all()

    def _lose(self) -> None:
        self.lost += 1
        self._untold += 1

    def _tell(self) -> None:
        """Say how many lines were lost, now that there is a way again."""
        with self._changed:
            count = self._untold
        if count and self._write(self._notice(count)):
            with self._changed:
                self._untold -= count

    def _write(self, line: bytes) -> bool:
        """Write a line, however long that takes; False if it cannot be written."""
        rest = memoryview(b"\n" + line if self._torn else line)
        try:
            while rest:
                try:
                    count = os.write(self._descriptor, rest)
                except BlockingIOError:
                    _wait_writable(self._descriptor)
                else:
                    self._torn = True
                    rest = rest[count:]
        except OSError:  # a full disk, a reader that has gone: others would only be told by what does not work
            return False
        self._torn = False
        return True


def open_stderr() -> int:
    """Return the descriptor of stderr, made safe for libraries that write to it as they please.

    A process may be started without stderr; the next socket would then get its number, and libraries' lines would go
    into a connection. And where it is a pipe, it is opened anew without blocking, for this process only, because what
    gRPC core has to say must not stop core.
    """
    try:
        mode = os.fstat(DESCRIPTOR).st_mode
    except OSError:
        _become_stderr(os.open(os.devnull, os.O_WRONLY))
        return DESCRIPTOR
    if stat.S_ISFIFO(mode):
        with suppress(OSError):  # no /proc, another user's pipe, or nobody reads: then it stays as it is
            _become_stderr(os.open(f"/proc/self/fd/{DESCRIPTOR}", os.O_WRONLY | os.O_NONBLOCK))
    return DESCRIPTOR


def _become_stderr(descriptor: int) -> None:
    if descriptor != DESCRIPTOR:
        os.dup2(descriptor, DESCRIPTOR)
        os.close(descriptor)


def _wait_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()
