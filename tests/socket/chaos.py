"""Servers in places where things go wrong, and callers that see what comes of it."""

import os
import shlex
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.socket.test_overload import until
from training.local_server import LSTM_SERVE, STOP_SECONDS

UNPRIVILEGED = "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all" if os.getuid() == 0 else ""
"""Makes root obey the permissions of files."""


def wrapped(directory: Path, *lines: str, by: str = "") -> Path:
    """Write a program that runs lines of shell, and then `lstm-serve` in its own place, by another program if given."""
    program = directory / "lstm-serve-wrapped"
    program.write_text("\n".join(["#!/bin/sh -e", *lines, f'exec {by} {shlex.quote(str(LSTM_SERVE))} "$@"', ""]))
    program.chmod(0o755)
    return program


class Unheard:
    """Context manager: a server of whose stderr nothing is known; that it is ready, its probe says.

    Attributes:
        address: `host:port` of the gRPC service.
        metrics_url: where Prometheus would look.
        process: of the server.
    """

    def __init__(self, repository: Path, *flags: str, stderr: int | IO[bytes], program: Path = LSTM_SERVE) -> None:
        """Start it with this stderr."""
        port, metrics_port = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        own = ["--grpc-port", str(port), "--metrics-port", str(metrics_port), "--drain-delay-seconds", "0"]
        self.process = subprocess.Popen([program, "--model-repository", repository, *own, *flags], stderr=stderr)

    def __enter__(self) -> Self:
        try:
            until(lambda: self._is_ready() or self.process.poll() is not None)
        except BaseException:
            self.process.kill()
            raise
        assert self.process.poll() is None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.metrics_url.replace("/metrics", "/readyz"), timeout=10) as page:  # noqa: S310  loopback
                return page.status == 200
        except OSError:
            return False


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_bytes(process: int, field: str) -> int:
    """Return a size from a process's status: VmRSS, VmHWM."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
