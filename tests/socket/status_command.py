"""`python -m serving.status` in a process of its own, and what its lines say."""

import os
import re
import socket
import subprocess
import sys
from urllib.parse import urlsplit

from training.local_server import LocalServer

SECONDS = 60


def command(server: LocalServer, *flags: str) -> list[str]:
    metrics_port = urlsplit(server.metrics_url).port
    return [sys.executable, "-m", "serving.status", server.address, "--metrics-port", str(metrics_port), *flags]


def status(
    server: LocalServer, *flags: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it once, with the server's ports and no token but what `environment` has."""
    return subprocess.run(
        command(server, "--once", *flags),
        env={**os.environ, "LSTM_SERVE_TOKEN": "", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def table(text: str) -> dict[str, dict[str, str]]:
    """Return what plain lines say of each version, by the headings of the columns."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("model "))
    headings = lines[start].split()
    rows = (re.split(r"\s{2,}", line) for line in lines[start + 1 :])
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows if len(row) == len(headings)}


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
        return port
