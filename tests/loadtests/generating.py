"""What the load generator's tests share: the program with its files, and gRPC's statuses by number."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.generator.program import read_result

OK, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 0, 2, 4, 8, 12, 14
ANSWER = b"\x12" + bytes(100_000)
"""It takes several DATA frames."""
ERROR_ANSWER = b"\x0a\x03bad"
LARGE = np.random.default_rng(0).bytes(300_000)


@dataclass
class Generator:
    """The program, with files in a folder."""

    program: Path
    folder: Path

    def start(self, port: int, *options: str) -> subprocess.CompletedProcess[str]:
        files = ["--messages", str(self.folder / "messages"), "--result", str(self.folder / "result")]
        command = [str(self.program), "--port", str(port), *files, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def run(self, port: int, messages: Sequence[bytes], *options: str) -> NDArray[np.void]:
        content = b"".join(len(message).to_bytes(4, "little") + message for message in messages)
        (self.folder / "messages").write_bytes(content)
        done = self.start(port, *options)
        assert done.returncode == 0, done.stderr
        return read_result(self.folder / "result")

    def closed_loop(self, port: int, messages: Sequence[bytes], callers: int, *options: str) -> NDArray[np.void]:
        return self.run(port, messages, "--seconds", "0.2", "--callers", str(callers), *options)

    def open_loop(
        self, port: int, messages: Sequence[bytes], arrivals: NDArray[np.float64], *options: str
    ) -> NDArray[np.void]:
        (self.folder / "arrivals").write_bytes(arrivals.astype("<f8").tobytes())
        return self.run(port, messages, "--arrivals", str(self.folder / "arrivals"), *options)


def turns(records: NDArray[np.void], count: int) -> list[int]:
    """The message indices of as many requests, if taken round robin."""
    return [turn % count for turn in range(len(records))]
