"""Lines for a slow reader, a full disk and a reader that has gone: nobody waits, and what was lost is told."""

import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import app
from serving.stderr import LineWriter

SECONDS = 60.0
PIPE_BYTES = 4096


def notice(count: int) -> bytes:
    return b"lost %d\n" % count


class Pipe:
    """A small pipe: what is written to it, and the end of its reader."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def read_until(self, end: bytes) -> bytes:
        """Return what comes, up to the given end."""
        content = b""
        while not content.endswith(end):
            assert select.select([self.reader], [], [], SECONDS)[0], content
            content += os.read(self.reader, PIPE_BYTES)
        return content


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.reader, made.writer):
        os.close(descriptor)


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_come_whole_and_in_order(pipe: Pipe, *, blocking: bool) -> None:
    """Also those that are longer than the pipe, which is written in pieces."""
    os.set_blocking(pipe.writer, blocking)
    writer = LineWriter(pipe.writer, notice=notice)
    lines = [b"%d%s\n" % (number, b"." * number * 3000) for number in range(6)] + [b"end\n"]

    for line in lines:
        writer.put(line)

    assert pipe.read_until(b"end\n") == b"".join(lines)
    assert writer.flush(seconds=SECONDS)
    assert writer.lost == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_waits_for_a_reader_that_stalls_and_what_was_lost_is_told(pipe: Pipe, *, blocking: bool) -> None:
    os.set_blocking(pipe.writer, blocking)
    writer = LineWriter(pipe.writer, notice=notice, max_waiting_bytes=3 * PIPE_BYTES)
    line = b"x" * 99 + b"\n"

    for _ in range(1000):  # this would not end if it waited
        writer.put(line)
    assert not writer.flush(seconds=0.01)
    lost = writer.lost
    content = pipe.read_until(b"lost %d\n" % lost)
    writer.put(b"later\n")

    assert 0 < lost < 1000
    assert content == line * (1000 - lost) + b"lost %d\n" % lost
    assert pipe.read_until(b"later\n") == b"later\n"


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LineWriter(full.fileno(), notice=notice)
        for _ in range(10):
            writer.put(b"line\n")
            assert writer.flush(seconds=SECONDS)

        assert writer.lost == 10


def test_a_reader_that_has_gone_costs_lines_until_there_is_another() -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    writer = LineWriter(pipe.writer, notice=notice)
    for _ in range(3):
        writer.put(b"line\n")
    assert writer.flush(seconds=SECONDS)
    assert writer.lost == 3

    other = Pipe()
    os.dup2(other.writer, pipe.writer)
    os.close(other.writer)
    writer.put(b"again\n")

    assert other.read_until(b"lost 3\n") == b"again\nlost 3\n"
    for descriptor in (pipe.writer, other.reader):
        os.close(descriptor)


def test_a_line_that_was_torn_does_not_swallow_the_next(pipe: Pipe) -> None:
    """A pipe takes the first part of a line, and its reader leaves."""
    writer = LineWriter(pipe.writer, notice=notice)
    writer.put(b"y" * 2 * PIPE_BYTES + b"\n")
    assert os.read(pipe.reader, 1) == b"y"
    other = Pipe()
    os.dup2(other.reader, pipe.reader)  # closes the one that was read
    assert writer.flush(seconds=SECONDS)

    os.dup2(other.writer, pipe.writer)
    writer.put(b"next\n")

    assert other.read_until(b"lost 1\n") == b"\nnext\nlost 1\n"
    for descriptor in (other.reader, other.writer):
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="opens a pipe anew through /proc")
def test_what_libraries_write_to_a_pipe_that_nobody_empties_does_not_stop_them(pipe: Pipe) -> None:
    """And the pipe of whoever started the process stays as it was."""
    code = "import os; from serving.stderr import open_stderr; fd = open_stderr()\ntry:\n while True: os.write(fd, b'x' * 512)\nexcept BlockingIOError: print('went on')"

    ended = subprocess.run(
        [sys.executable, "-c", code], stderr=pipe.writer, stdout=subprocess.PIPE, timeout=60, check=True
    )

    assert ended.stdout == b"went on\n"
    assert os.get_blocking(pipe.writer)


def test_without_stderr_no_file_that_is_opened_later_takes_its_number() -> None:
    code = "import os; from serving.stderr import open_stderr; open_stderr(); print(os.open('/dev/zero', os.O_RDONLY), os.readlink('/proc/self/fd/2'))"

    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code], capture_output=True, timeout=60, check=True
    )

    number, target = ended.stdout.split()
    assert int(number) > 2
    assert target == b"/dev/null"


def test_the_last_words_of_a_process_that_a_bug_ends_are_written() -> None:
    """Nothing of Python's own end is run then, which would wait for them."""
    code = """
import threading
from serving import app, logs
logs.configure(log_format="json", level="info")
threading.excepthook = app._die
threading.Thread(target=lambda: 1 / 0, name="runner").start()
threading.Event().wait(60)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)

    assert ended.returncode == app.EXIT_FAULT
    entry = json.loads(ended.stderr)
    assert (entry["event"], entry["level"]) == ("thread_died", "CRITICAL")
    assert "thread runner died" in entry["message"]
    assert "ZeroDivisionError" in entry["exception"]
