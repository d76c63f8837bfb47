"""Runs that do not come to their end: what is known is told, and they never pass."""

import os
import signal
from pathlib import Path

import pytest

from tests.loadtests.traffic.loading import end, metrics, start
from tests.loadtests.traffic.waiting import first_request, workers_of
from training.local_server import LocalServer

LONG = ("--models", "whole", "--seconds", "600", "--shape", "steady:50", "--check", "4")
SHORT = ("--models", "whole", "--seconds", "8", "--shape", "steady:50", "--check", "4")
NOTICED = ("--models", "whole", "--seconds", "14", "--shape", "steady:50", "--check", "4", "--deadline", "0.5")
"""Long enough for locust to miss a worker, spread its users anew, and end the call of one that it stops."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_reports_and_does_not_pass(
    server: LocalServer, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(server.address, tmp_path, *LONG, *metrics(server), locust=PLAIN)
    first_request(server)
    process.send_signal(number)
    ended = end(process, tmp_path)

    assert ended.code == 1, ended.printed
    assert "was stopped after" in ended.record["warnings"][0]
    assert not ended.record["passed"]
    assert ended.figures["answered"] > 0
    assert ended.figures["answered"] + ended.figures["errors"] == ended.figures["due"]


def test_a_server_that_dies_leaves_no_request_without_an_end(repository: Path, tmp_path: Path) -> None:
    with LocalServer(repository) as mortal:
        process = start(mortal.address, tmp_path, *SHORT, *metrics(mortal), locust=PLAIN)
        first_request(mortal)
        mortal.process.kill()
        ended = end(process, tmp_path)

    assert ended.code == 1, ended.printed
    assert ended.figures["due"] == ended.figures["ended"]
    assert ended.figures["answered"] > 0
    assert ended.figures["errors"] > 0
    assert any(outcome.startswith("UNAVAILABLE") for outcome in ended.record["outcomes"])


def test_the_requests_of_a_worker_that_dies_are_lost_and_told(server: LocalServer, tmp_path: Path) -> None:
    process = start(server.address, tmp_path, *NOTICED, "--processes", "2", *metrics(server), locust=PLAIN)
    first_request(server)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    ended = end(process, tmp_path)

    assert ended.code == 1, ended.printed
    assert ended.figures["lost"] > 0
    assert f"{ended.figures['lost']:.0f} requests are lost" in " ".join(ended.record["warnings"])
    assert ended.figures["lost"] <= ended.figures["due"] // 2 + 1, "the other worker's half has come to an end"
    assert ended.figures["answered"] > 0


PLAIN = ("-m", "locust", "-f", "loadtests/locustfile.py", "--headless")
