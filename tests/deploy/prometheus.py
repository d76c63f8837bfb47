"""A real Prometheus of one's own on loopback, asked by its HTTP interface."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.2


def needs(program: str) -> None:
    """Skip the test where Debian's package with the program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: apt-get install prometheus")


class Prometheus:
    """One that runs, by its address."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of `/api/v1/{path}`.

        Raises:
            AssertionError: it does not like the question; the message says why.
        """
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310  loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error)['error']}") from None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values of an instant query now."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Return the state of every rule."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        """Return whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, configuration: dict[str, Any]) -> Iterator[Prometheus]:
    """Run one inside, with its data in the folder."""
    needs("prometheus")
    file = folder / "prometheus.yaml"
    file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "prometheus.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        running = Prometheus(f"http://127.0.0.1:{port}")
        try:
            until(lambda: process.poll() is not None or running.is_ready())
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            process.terminate()


def until(is_so: Callable[[], bool]) -> None:
    """Look again and again until it is so.

    Raises:
        TimeoutError: it never was.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {PATIENCE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
