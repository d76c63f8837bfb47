"""Runs of locust against a server, in processes of their own, as a user starts them."""

import csv
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.local_server import LocalServer

ROOT = Path(__file__).parents[3]
SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """A run that is over: its exit code, what it printed, and the folder of its report."""

    code: int
    printed: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "load.json").read_text())

    @property
    def figures(self) -> dict[str, Any]:
        return self.record["figures"]["all"]

    @property
    def requests(self) -> list[dict[str, str]]:
        with (self.folder / "requests.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def planned(self) -> list[tuple[str, ...]]:
        """What each request was, and when it was due."""
        return sorted((row["due"], row["model"], row["steps"], row["call"]) for row in self.requests)


def start(
    address: str, folder: Path, *flags: str, locust: Sequence[str] = ("-m", "loadtests.load")
) -> subprocess.Popen[str]:
    """Start a run; `locust` is how."""
    port = str(free_port())
    command = [
        *(sys.executable, *locust, "--host", address, "--output", str(folder)),
        *("--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port, *flags),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process: subprocess.Popen[str], folder: Path) -> Ended:
    """Wait for a run, and see that it printed no stack trace."""
    try:
        printed, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the run went on for {SECONDS} seconds:\n{process.communicate()[0]}")
    finally:
        process.kill()
    assert "Traceback" not in printed, printed
    return Ended(process.returncode, printed, folder)


def run(address: str, folder: Path, *flags: str, locust: Sequence[str] = ("-m", "loadtests.load")) -> Ended:
    """Run to the end."""
    return end(start(address, folder, *flags, locust=locust), folder)


def metrics(server: LocalServer) -> tuple[str, str]:
    """Return the flags that name a server's metrics."""
    return "--metrics-url", server.metrics_url


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
