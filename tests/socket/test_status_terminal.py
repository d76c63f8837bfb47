"""`lstm-serve status` on a terminal and in a pipe: how it draws, and how it is left."""

import fcntl
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

from tests.socket.conftest import sequence, tensor
from tests.socket.status_command import SECONDS, command, table
from training.local_server import LocalServer

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
    repository: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [str(each.getsockname()[1]) for each in (first, second)]
    flags = ("--grpc-port", ports[0], "--metrics-port", ports[1])
    with LocalServer(repository, *flags) as server, on_terminal(command(server, "--interval", "0.2")) as terminal:
        assert "\x1b[?1049h" in terminal.wait_for("since the start.*lstm/2"), "a screen of its own"
        with triton.InferenceServerClient(server.address) as client:
            client.infer("lstm", [tensor("x", sequence(np.random.default_rng(0), 1, 3))])
        terminal.wait_for(r"of the last .*lstm/2\s+\S*ready\S*\s+1 ")
        server.stop()
        assert "Nothing listens on" in terminal.wait_for("not reached.*models are loaded")
        with LocalServer(repository, *flags):
            terminal.wait_for(r"of the last .*lstm/2\s+\S*ready\S*\s+0 ")
            terminal.press("\x03")
            code, rest = terminal.end()

    assert code == 0
    assert "Traceback" not in rest
    _, left, after = rest.partition("\x1b[?1049l")
    assert left, "the screen is given back"
    assert "\x1b[?25h" in rest, "so is the cursor"
    assert "lstm/2" in after, "the last picture stays"


def test_no_color_is_respected(server: LocalServer) -> None:
    with on_terminal(command(server, "--once"), NO_COLOR="1") as terminal:
        code, plain = terminal.end()
    with on_terminal(command(server, "--once"), NO_COLOR="") as terminal:
        _, coloured = terminal.end()

    assert code == 0
    colour = re.compile(r"\x1b\[[\d;]*3\d")
    assert "causal/1" in plain
    assert colour.search(coloured)
    assert not colour.search(plain)


def test_lines_go_on_until_ctrl_c_where_there_is_no_terminal(server: LocalServer) -> None:
    running = subprocess.Popen(command(server, "--interval", "0.2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def test_a_reader_that_has_enough_is_no_error(server: LocalServer) -> None:
    running = subprocess.Popen(command(server, "--interval", "0.1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr is not None
    with running.stderr:
        assert running.stderr.read() == b""
    assert running.wait(SECONDS) == 0


@contextmanager
def relay(url: str) -> Iterator[tuple[int, threading.Event]]:
    """Pass a page on from a port of its own, while the event is set; hang up otherwise."""
    passing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if passing.is_set():
                with urllib.request.urlopen(url, timeout=SECONDS) as page:  # noqa: S310  loopback
                    body = page.read()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        passing.set()
        yield server.server_port, passing
        server.shutdown()
        thread.join()


def test_metrics_that_come_back_are_compared_with_those_before(server: LocalServer) -> None:
    """And not with what the calls told meanwhile, which is less."""
    with triton.InferenceServerClient(server.address) as client:
        client.infer("alike", [tensor("x", sequence(np.random.default_rng(0), 1, 3))])
    with relay(server.metrics_url) as (port, passing):
        running = subprocess.Popen(
            command(server, "--interval", "0.2", "--metrics-port", str(port)), stdout=subprocess.PIPE, text=True
        )

        def picture() -> str:
            """Read the next one; an empty line is between two."""
            assert running.stdout is not None
            return "".join(iter(running.stdout.readline, "\n"))

        first = picture()
        passing.clear()
        while "No metrics from" not in (without := picture()):
            pass
        passing.set()
        while "No metrics from" in (again := picture()):
            pass
        running.send_signal(signal.SIGINT)
        assert running.stdout is not None
        running.communicate(timeout=SECONDS)

    assert "figures since the start" in first
    assert table(first)["alike/1"]["p50"] != "-"
    assert table(without)["alike/1"]["total"] == table(first)["alike/1"]["total"]
    assert "figures of the last" in again
    assert (table(again)["alike/1"]["req/s"], table(again)["alike/1"]["p50"]) == ("0", "-")
    assert running.returncode == 0
