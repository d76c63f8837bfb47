"""Write typed Python of the contract, and of the native front's seam, into a folder (default: the repository)."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACT, SEAM = "proto", "serving/wire/native"
"""Folders of one file each; only the contract has a service."""


def generate(target: Path) -> None:
    """Run protoc so that `target/serving/_proto/` holds messages, stubs and their types.

    Raises:
        subprocess.CalledProcessError: protoc refused a file; its message is on standard error.
    """
    _run(target, f"{CONTRACT}/open_inference.proto", "python", "grpc_python", "mypy", "mypy_grpc")
    _run(target, f"{SEAM}/seam.proto", "python", "mypy")


def _run(target: Path, file: str, *kinds: str) -> None:
    outputs = [f"--{kind}_out={target}" for kind in kinds]
    folder = file.rpartition("/")[0]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-Iserving/_proto={folder}", *outputs, file]
    plugins = str(Path(sys.executable).parent)  # protoc looks for mypy-protobuf's plugins on the PATH
    environment = {**os.environ, "PATH": os.pathsep.join([plugins, os.environ.get("PATH", os.defpath)])}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
