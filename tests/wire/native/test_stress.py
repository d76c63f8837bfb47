"""The front's parts by several threads: under sanitizers, and counting what millions of requests leave behind."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.wire.native.programs import build, needs_compiler

PARTS = ("bridge", "counts", "ending", "health", "inbox", "request", "signature", "slots", "unread")
ROUNDS = 10_000
REQUESTS = int(os.environ.get("STRESS_REQUESTS", "1000000"))
MOST_GROWTH_KIB = 4096
"""Four bytes for each request would be as much."""

pytestmark = needs_compiler


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_no_sanitizer_finds_anything(tmp_path: Path, sanitizers: str) -> None:
    program = build(tmp_path, "stress.cpp", PARTS, sanitizers, level=0)  # compiling takes longer than running

    ran = subprocess.run(
        [program, "stress", str(ROUNDS)],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def test_requests_leave_nothing_behind(tmp_path: Path) -> None:
    program = build(tmp_path, "stress.cpp", PARTS)

    ran = subprocess.run([program, "count", str(REQUESTS)], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")
    found = re.search(r": (\d+) KiB at a tenth, (\d+) KiB at the end", ran.stdout)
    assert found is not None
    at_a_tenth, at_the_end = map(int, found.groups())
    assert at_the_end - at_a_tenth < MOST_GROWTH_KIB
