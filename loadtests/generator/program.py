"""Builds the load generator and reads what it wrote."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("generator.c")
FLAGS = ("-O2", "-Wall", "-Wextra", "-std=c11", "-D_GNU_SOURCE")
LIBRARIES = ("-lnghttp2",)
PACKAGES = "apt-get install gcc libnghttp2-dev"
RECORD = np.dtype([("index", "<u4"), ("status", "<i4"), ("meant", "<f8"), ("sent", "<f8"), ("ended", "<f8")])
"""A finished request: which message, its gRPC status code, and seconds from the start when it was meant to go out, when
the generator came to it (later, if it cannot keep up) and when it ended."""


def build(folder: Path) -> Path:
    """Compile the generator into an existing folder with `$CC` (default `cc`).

    Returns:
        The program.

    Raises:
        RuntimeError: there is no compiler, or it fails, as it does without libnghttp2's header.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise RuntimeError(f"{compiler[0]}: no such C compiler; the load generator needs one ({PACKAGES})")
    program = folder / "generator"
    command = [*compiler, *FLAGS, "-o", str(program), str(SOURCE), *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  fixed but for $CC
    if done.returncode:
        message = f"{shlex.join(command)} failed; it needs a C compiler and libnghttp2 ({PACKAGES}):\n{done.stderr}"
        raise RuntimeError(message)
    return program


def read_result(path: Path) -> NDArray[np.void]:
    """Read the records of a run.

    Returns:
        RECORD[requests], in the order in which they ended.

    Raises:
        ValueError: the file is not a whole number of records.
    """
    content = path.read_bytes()
    if len(content) % RECORD.itemsize:
        raise ValueError(f"{path}: {len(content)} bytes; expected records of {RECORD.itemsize} bytes each")
    return np.frombuffer(content, RECORD)
