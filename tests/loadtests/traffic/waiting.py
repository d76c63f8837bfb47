"""Waiting for what a run does, without guessing how long it takes."""

import time
import urllib.request
from pathlib import Path

from training.local_server import LocalServer

SECONDS = 60.0
CHECKED = 4
"""Requests that are asked before the load."""


def first_request(server: LocalServer) -> None:
    """Wait until the server has answered some requests of a load."""
    end, before = time.monotonic() + SECONDS, answered(server)
    while answered(server) < before + CHECKED + 20:
        assert time.monotonic() < end, "no load came"
        time.sleep(0.05)


def answered(server: LocalServer) -> float:
    """Return how many requests the server has answered."""
    with urllib.request.urlopen(server.metrics_url, timeout=SECONDS) as page:  # noqa: S310  loopback
        lines = page.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("lstm_requests_total{") and 'outcome="ok"' in line
    )


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has forked."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
