"""What the load generator says when it is not used as it should be."""

import socket
import subprocess

import numpy as np
import pytest

from tests.loadtests.generating import (
    Generator,
)
from tests.loadtests.http2_peer import peer


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What it said, which must be one line."""
    assert done.stderr.startswith("generator: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_port_without_a_server_is_named(generator: Generator) -> None:
    (generator.folder / "messages").write_bytes(b"\1\0\0\0x")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        done = generator.start(port, "--seconds", "0.2", "--callers", "1")

    assert done.returncode == 1
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused; expected a gRPC server" in one_line(done)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_that_does_not_speak_http2_is_named(generator: Generator, said: bytes) -> None:
    (generator.folder / "messages").write_bytes(b"\1\0\0\0x")

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with peer(answer) as port:
        done = generator.start(port, "--seconds", "0.2", "--callers", "1", "--connections", "1")

    assert done.returncode == 1
    assert "expected a gRPC server without TLS" in one_line(done)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\1\0\0\0x\1\0", "truncated in message 1"),
        (b"\1\0\0\0x\2\0\0\0y", "truncated in message 1"),
        (None, "No such file"),
    ],
)
def test_a_broken_message_file_is_a_usage_error(generator: Generator, content: bytes | None, said: str) -> None:
    if content is not None:
        (generator.folder / "messages").write_bytes(content)

    done = generator.start(1, "--seconds", "0.2", "--callers", "1")

    assert done.returncode == 2
    assert said in one_line(done)
    assert str(generator.folder / "messages") in done.stderr


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        (b"", "is empty"),
        (bytes(9), "expected float64 seconds"),
        (np.array([0.2, 0.1]).tobytes(), "arrival 1 is 0.1; expected ascending seconds"),
        (np.array([np.nan]).tobytes(), "arrival 0 is nan"),
        (np.array([-1.0]).tobytes(), "arrival 0 is -1"),
        (np.array([1e300]).tobytes(), "arrival 0 is 1e+300"),
    ],
)
def test_broken_arrivals_are_a_usage_error(generator: Generator, arrivals: bytes, said: str) -> None:
    (generator.folder / "messages").write_bytes(b"\1\0\0\0x")
    (generator.folder / "arrivals").write_bytes(arrivals)

    done = generator.start(1, "--arrivals", str(generator.folder / "arrivals"))

    assert done.returncode == 2
    assert said in one_line(done)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--callers or --arrivals is needed"),
        (["--callers", "1"], "--callers needs --seconds"),
        (["--callers", "1", "--arrivals", "a"], "--callers or --arrivals is needed"),
        (["--arrivals", "a", "--stream"], "--stream goes with --callers only"),
        (["--callers", "1.5"], "--callers 1.5: expected a whole number from 1"),
        (["--callers", "many"], "--callers many: expected"),
        (["--callers", "0"], "--callers 0: expected"),
        (["--seconds", "-1"], "--seconds -1: expected"),
        (["--seconds", "nan"], "--seconds nan: expected"),
        (["--timeout-us", "100000000"], "--timeout-us 100000000: expected a whole number from 1"),
        (["--connections", "99999"], "--connections 99999: expected"),
        (["--frequency", "9"], "unknown, or without its value"),
        (["--callers"], "--callers: unknown, or without its value"),
        (["spare"], "spare: not an option"),
        (["--callers", "1", "--seconds", "1", "--result", "."], ".: Is a directory"),
    ],
)
def test_a_bad_command_line_is_a_usage_error(generator: Generator, options: list[str], said: str) -> None:
    (generator.folder / "messages").write_bytes(b"\1\0\0\0x")

    done = generator.start(1, *options)

    assert done.returncode == 2
    assert said in one_line(done)
