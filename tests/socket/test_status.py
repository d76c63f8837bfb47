"""`python -m serving.status` against real servers: what it shows of what was sent, and what it says when it cannot."""

import fcntl
import hashlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from tests.socket.test_tls import Authority
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

SECONDS = 60
RNG = np.random.default_rng(11)
GOOD_ROWS = (1, 2, 3, 2)
BAD = 3
TOKENS = {"all": {"models": "*"}, "one": {"models": ["causal"]}}
NUMBER = r"[\d,.<>]+|-"


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


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def guarded(
    models: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalServer, Path]]:
    """A server with mTLS and tokens, and the folder of everybody's files."""
    folder = tmp_path_factory.mktemp("guarded")
    for name, pair in (("server", authority.pair()), ("client", authority.pair("client"))):
        (folder / f"{name}.key").write_bytes(pair[0])
        (folder / f"{name}.pem").write_bytes(pair[1])
    (folder / "ca.pem").write_bytes(authority.pem)
    entries = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **TOKENS[name]} for name in TOKENS]
    (folder / "tokens.yaml").write_text(yaml.safe_dump(entries))
    (folder / "token").write_text("all\n")
    flags = {
        "--tls-certificate": "server.pem",
        "--tls-key": "server.key",
        "--tls-client-ca": "ca.pem",
        "--tokens": "tokens.yaml",
    }
    with LocalServer(models, *(part for flag, name in flags.items() for part in (flag, str(folder / name)))) as running:
        yield running, folder


def ours(folder: Path) -> tuple[str, ...]:
    flags = {"--tls-ca": "ca.pem", "--tls-certificate": "client.pem", "--tls-key": "client.key"}
    return tuple(part for flag, name in flags.items() for part in (flag, str(folder / name)))


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
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free_port = closed.getsockname()[1]
    ended = status(served, "--metrics-port", str(free_port))

    assert ended.returncode == 0
    causal = table(ended.stdout)["causal/1"]
    assert causal["total"] == str(len(GOOD_ROWS) + BAD)
    assert float(causal["mean"]) > 0
    assert (causal["p50"], causal["queue"], causal["backlog"], causal["req/s"]) == ("-",) * 4
    assert f"{free_port}/metrics: connection refused" in ended.stdout
    assert "--metrics-port" in ended.stdout


def test_it_shows_a_server_with_mtls_to_whom_has_certificate_and_token(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    by_file = status(server, *ours(folder), "--token-file", str(folder / "token"))
    by_variable = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": "all"})

    for ended in (by_file, by_variable):
        assert (ended.returncode, ended.stderr) == (0, "")
        assert table(ended.stdout)["causal/1"]["state"] == "ready"


def test_a_token_for_one_model_shows_what_it_may(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    ended = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": "one"})

    assert ended.returncode == 0
    assert table(ended.stdout)["causal/1"]["state"] == "-"
    assert "client 'one' has no right to model '*'" in ended.stdout
    assert "admin: true" in ended.stdout


def test_with_little_right_and_no_metrics_it_says_both(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    with socket.create_server(("127.0.0.1", 0)) as closed:
        metrics = ("--metrics-port", str(closed.getsockname()[1]))
    ended = status(server, *metrics, *ours(folder), environment={"LSTM_SERVE_TOKEN": "one"})

    assert ended.returncode == 0
    assert ended.stdout.startswith("lstm-serve 0.1.0 on ")
    assert "States of models are not shown" in ended.stdout
    assert "No metrics from" in ended.stdout


@pytest.mark.parametrize(
    ("token", "text"), [("", "asks for a token"), ("wrong", "does not take this token (the token is not known here)")]
)
def test_a_token_that_is_missing_or_unknown_ends_it(guarded: tuple[LocalServer, Path], token: str, text: str) -> None:
    server, folder = guarded
    ended = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": token})

    assert (ended.returncode, ended.stdout) == (1, "")
    assert text in ended.stderr
    assert "LSTM_SERVE_TOKEN" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "wrong" not in ended.stderr, "a token is never repeated"


def test_what_is_wrong_with_tls_is_named(
    guarded: tuple[LocalServer, Path], served: LocalServer, tmp_path: Path
) -> None:
    server, folder = guarded
    (tmp_path / "other.pem").write_bytes(Authority().pem)
    for name, content in zip(("key", "pem"), Authority().pair("client"), strict=True):
        (tmp_path / f"foreign.{name}").write_bytes(content)
    foreign = ("--tls-certificate", str(tmp_path / "foreign.pem"), "--tls-key", str(tmp_path / "foreign.key"))
    authority = ("--tls-ca", str(folder / "ca.pem"))
    cases: list[tuple[LocalServer, tuple[str, ...], str]] = [
        (server, (), "is encrypted; give --tls"),
        (server, ("--tls-ca", str(tmp_path / "other.pem")), "certificate that is not accepted"),
        (server, (*authority, "--tls-name", "other.example"), "Hostname mismatch"),
        (server, authority, "that asks clients for a certificate (mTLS)"),
        (server, (*authority, *foreign), "does not accept the certificate in"),
        (served, ("--tls",), "does not speak TLS; leave out --tls"),
    ]
    for asked, flags, text in cases:
        ended = status(asked, *flags)
        assert (ended.returncode, ended.stdout) == (1, ""), flags
        assert text in ended.stderr, flags
        assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_ports_that_are_others_are_told_apart(served: LocalServer) -> None:
    metrics_port = str(urlsplit(served.metrics_url).port)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free_port = closed.getsockname()[1]
    wrong = {
        f"127.0.0.1:{free_port}": "nothing listens on",
        f"127.0.0.1:{metrics_port}": "not that of the metrics",
        "no-such-host.invalid": "there is no address for the host 'no-such-host.invalid'",
    }
    for host, text in wrong.items():
        ended = subprocess.run(
            [sys.executable, "-m", "serving.status", host, "--once"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (1, "")
        assert text in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


IN_FRONT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Takes the terminal, so that its Ctrl-C comes, and becomes the program."""
LINES, COLUMNS = 40, 200


class Terminal:
    """A pseudo-terminal on which a program runs in front, and what it has drawn there."""

    def __init__(self, program: list[str], environment: dict[str, str]) -> None:
        self.drawn = ""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_FRONT, *program],
            stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )  # fmt: skip
        os.close(slave)

    def wait_for(self, pattern: str) -> str:
        """Return what is drawn up to the next match, which ends it."""
        while (found := re.search(pattern, self.drawn, re.DOTALL)) is None:
            if not self._read():
                raise AssertionError(f"it ended without {pattern!r}: {self.drawn!r}")
        before, self.drawn = self.drawn[: found.end()], self.drawn[found.end() :]
        return before

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> tuple[int, str]:
        """Return the exit code, as a shell has it, and what was drawn last."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(SECONDS), self.drawn

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], SECONDS)
        assert ready, f"nothing was drawn for {SECONDS} s after {self.drawn!r}"
        try:
            new = os.read(self._master, 65536)
        except OSError:  # the program has ended
            return False
        self.drawn += new.decode(errors="replace")
        return bool(new)


@contextmanager
def on_terminal(program: list[str], **environment: str) -> Iterator[Terminal]:
    terminal = Terminal(program, {"COLUMNS": "", "LINES": "", **environment})
    try:
        yield terminal
    except BaseException:
        terminal.process.kill()
        terminal.end()
        raise


def test_the_live_view_follows_a_server_that_goes_and_comes_back_and_ctrl_c_gives_the_terminal_back(
    models: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [str(each.getsockname()[1]) for each in (first, second)]
    flags = ("--grpc-port", ports[0], "--metrics-port", ports[1])
    with LocalServer(models, *flags) as server, on_terminal(command(server, "--interval", "0.2")) as terminal:
        assert "\x1b[?1049h" in terminal.wait_for("since the start.*lstm/10"), "a screen of its own"
        with triton.InferenceServerClient(server.address) as client:
            client.infer("lstm", [tensor("x", sequence(RNG, 1, 3))])
        terminal.wait_for(r"of the last .*lstm/10\s+\S*ready\S*\s+1 ")
        server.stop()
        assert "Nothing listens on" in terminal.wait_for("not reached.*models are loaded")
        with LocalServer(models, *flags):
            terminal.wait_for(r"of the last .*lstm/10\s+\S*ready\S*\s+0 ")
            terminal.press("\x03")
            code, rest = terminal.end()

    assert code == 0
    assert "Traceback" not in rest
    _, left, after = rest.partition("\x1b[?1049l")
    assert left, "the screen is given back"
    assert "\x1b[?25h" in rest, "so is the cursor"
    assert "lstm/10" in after, "the last picture stays"


def test_no_color_is_respected(served: LocalServer) -> None:
    with on_terminal(command(served, "--once"), NO_COLOR="1") as terminal:
        code, plain = terminal.end()
    with on_terminal(command(served, "--once"), NO_COLOR="") as terminal:
        _, coloured = terminal.end()

    assert code == 0
    colour = re.compile(r"\x1b\[[\d;]*3\d")
    assert "causal/1" in plain
    assert colour.search(coloured)
    assert not colour.search(plain)


def test_lines_go_on_until_ctrl_c_where_there_is_no_terminal(served: LocalServer) -> None:
    running = subprocess.Popen(command(served, "--interval", "0.2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    titles = 0
    while titles < 3:
        titles += running.stdout.readline().startswith(b"lstm-serve ")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=SECONDS)

    assert (running.returncode, errors) == (0, b"")


def test_once_that_is_interrupted_says_so_by_its_exit_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = subprocess.Popen(
            [sys.executable, "-m", "serving.status", "--once", "--grpc-port", str(silent.getsockname()[1])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(SECONDS)
        silent.accept()[0].close()  # it has begun to ask
        running.send_signal(signal.SIGINT)
        shown, errors = running.communicate(timeout=SECONDS)

    assert (running.returncode, shown, errors) == (130, b"", b"")


def test_a_reader_that_has_enough_is_no_error(served: LocalServer) -> None:
    running = subprocess.Popen(command(served, "--interval", "0.1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr is not None
    with running.stderr:
        assert running.stderr.read() == b""
    assert running.wait(SECONDS) == 0
