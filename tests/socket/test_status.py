"""`lstm-serve status` against real servers: what it shows of what was sent."""

import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from tests.socket.status_command import SECONDS, closed_port, command, status, table
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

RNG = np.random.default_rng(11)
GOOD_ROWS = (1, 2, 3, 2)
BAD = 3


def of_line(line: str, text: str) -> str:
    return next(each for each in text.splitlines() if each.strip().startswith(line))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm", 1)
    write_lstm(root, "lstm", 10, seed=2)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    tampered = write_lstm(root, "tampered") / "model.onnx"
    tampered.write_bytes(tampered.read_bytes() + b"\0")
    return root


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[LocalServer]:
    """Four good requests to `causal`, three bad ones, and one to no model."""
    with LocalServer(models) as running, triton.InferenceServerClient(running.address) as client:
        answers = infer_together(client, "causal", [sequence(RNG, rows, 40) for rows in GOOD_ROWS])
        assert not any(isinstance(answer, InferenceServerException) for answer in answers)
        wrong = np.full((1, 2, 3), np.nan, np.float32)
        refused = infer_together(client, "causal", [wrong] * BAD)
        assert all(isinstance(answer, InferenceServerException) for answer in refused)
        with pytest.raises(InferenceServerException):
            client.infer("absent", [tensor("x", wrong)])
        yield running


def test_once_shows_what_was_sent_since_the_start(served: LocalServer) -> None:
    ended = status(served)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout, "what is piped is plain"
    assert ended.stdout.startswith(f"lstm-serve 0.1.0 on {served.address}: ready\n")
    shown = table(ended.stdout)
    assert list(shown) == ["causal/1", "lstm/1", "lstm/10", "tampered/1"]
    causal = shown["causal/1"]
    assert causal["state"] == "ready"
    assert causal["total"] == str(len(GOOD_ROWS) + BAD)
    assert (causal["queue"], causal["live"], causal["backlog"]) == ("0", "0", "0.000")
    assert causal["engine"] == "fp32 onnxruntime"
    rates = [float(causal[name]) for name in ("req/s", "rows/s", "err/s")]
    assert rates[0] > 0
    assert rates[1] / rates[0] == pytest.approx(sum(GOOD_ROWS) / (len(GOOD_ROWS) + BAD), rel=0.02)
    assert rates[2] / rates[0] == pytest.approx(BAD / (len(GOOD_ROWS) + BAD), rel=0.02)
    assert shown["lstm/10"]["total"] == "0"
    assert shown["lstm/10"]["p99"] == "-", "quantiles of nothing are none"
    assert of_line("causal/1:", ended.stdout).strip() == f"causal/1: {BAD} invalid"
    assert of_line("of no model:", ended.stdout).strip() == "of no model: 1 not_found"


def test_means_are_those_of_the_metrics(served: LocalServer) -> None:
    causal = table(status(served).stdout)["causal/1"]

    def mean(name: str, below: str | None = None, **labels: str) -> float:
        top, bottom = (
            read_metric(served, each, model="causal", version="1", **labels)
            for each in (f"{name}_sum", below or f"{name}_count")
        )
        return top / bottom

    seconds = mean("lstm_request_seconds", outcome="ok")
    assert float(causal["mean"]) == pytest.approx(seconds * 1000, rel=0.01)
    assert float(causal["p50"]) <= float(causal["p90"]) <= float(causal["p99"])
    assert float(causal["rows/call"]) == pytest.approx(mean("lstm_batch_rows"), rel=0.01)
    assert float(causal["occ%"]) == pytest.approx(100 * mean("lstm_batch_occupancy_ratio"), rel=0.01)
    padded = mean("lstm_batch_steps", "lstm_batch_padded_steps_total")
    assert float(causal["real%"]) == pytest.approx(100 * padded, rel=0.01)


def test_a_version_that_was_refused_is_shown_with_its_reason(served: LocalServer) -> None:
    ended = status(served)

    refused = table(ended.stdout)["tampered/1"]
    assert refused["state"] == "down"
    assert refused["total"] == "-"
    assert "was refused at load" in of_line("tampered/1 was", ended.stdout)


def test_an_interval_counts_what_came_in_it_and_nothing_before(models: Path) -> None:
    """Requests go on until it has ended: as many as the counter went up meanwhile, at the most."""
    over = threading.Event()
    sent = 0
    with LocalServer(models) as server, triton.InferenceServerClient(server.address) as client:
        x = [tensor("x", sequence(RNG, 1, 3))]
        for _ in range(50):
            client.infer("lstm", x, model_version="1")
        running = subprocess.Popen(command(server, "--once", "--interval", "2"), stdout=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: (running.wait(SECONDS), over.set())).start()
        while not over.is_set():
            client.infer("lstm", x)
            sent += 1
        assert running.stdout is not None
        text = running.stdout.read()
        running.stdout.close()

    shown = table(text)
    seconds = float(re.search(r"figures of the last (\S+) s", text)[1])  # type: ignore[index]
    assert 2 <= seconds < SECONDS
    assert 1 <= float(shown["lstm/10"]["req/s"].replace(",", "")) * seconds <= 1.05 * sent
    assert (shown["lstm/1"]["total"], shown["lstm/1"]["req/s"], shown["lstm/1"]["p50"]) == ("50", "0", "-")


def test_without_the_metrics_it_shows_what_the_calls_tell(served: LocalServer) -> None:
    free_port = closed_port()
    ended = status(served, "--metrics-port", str(free_port))

    assert ended.returncode == 0
    causal = table(ended.stdout)["causal/1"]
    assert causal["total"] == str(len(GOOD_ROWS) + BAD)
    assert float(causal["mean"]) > 0
    assert (causal["p50"], causal["queue"], causal["backlog"], causal["req/s"]) == ("-",) * 4
    assert f"{free_port}/metrics: connection refused" in ended.stdout
    assert "--metrics-port" in ended.stdout
