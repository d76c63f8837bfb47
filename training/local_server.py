"""An `lstm-serve` of one's own on loopback: started on free ports, stopped by its own process id."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

READY = re.compile(r"ready: gRPC on (\S+):(\d+), metrics on (http://[^\s\"]+)")
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LSTM_SERVE = Path(sys.executable).with_name("lstm-serve")
"""The server that was installed beside this Python."""


class LocalServer:
    """Context manager: `lstm-serve` ready to be called inside, drained and gone outside.

    Attributes:
        address: `host:port` of the gRPC service.
        metrics_url: where Prometheus would look.
        log: the server's lines so far.
    """

    def __init__(self, repository: Path, *flags: str, program: Path = LSTM_SERVE) -> None:
        """Start the server and wait until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready within a minute; the message has its log.
        """
        own = ["--grpc-port", "0", "--metrics-port", "0", "--drain-delay-seconds", "0"]  # nobody else sends calls
        command: list[str | Path] = [program, "--model-repository", repository, *own, *flags]
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        environment = {"LSTM_SERVE_LOG_FORMAT": "text", **os.environ}  # a flag comes before it
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603  our own program
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            ready = self.wait_for(READY)
        except RuntimeError:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            raise
        self.address = f"{ready[1]}:{ready[2]}"
        self.metrics_url = ready[3]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_for(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Return the first match in the server's log, as soon as it is there.

        Raises:
            RuntimeError: the server ended, or a minute passed, without such a line; the message has its log.
        """

        def found() -> re.Match[str] | None:
            return next((match for line in self.log if (match := re.search(pattern, line))), None)

        with self._grown:
            self._grown.wait_for(lambda: found() or self._ended, START_SECONDS)
            match = found()
        if match is None:
            raise RuntimeError(f"lstm-serve never said '{re.compile(pattern).pattern}':\n" + "".join(self.log))
        return match

    def stop(self) -> int:
        """Ask the server to drain, wait for it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None, "stderr is a pipe"
        with self.process.stderr as stream:
            for line in stream:
                with self._grown:
                    self.log.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()
