"""Write the typed gRPC stubs of `proto/open_inference.proto` into a folder (default: the repository)."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = "proto/open_inference.proto"


def generate(target: Path) -> None:
    """Run protoc so that `target/serving/_proto/` holds messages, stubs and their types.

    Raises:
        subprocess.CalledProcessError: protoc refused the file; its message is on standard error.
    """
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iserving/_proto=proto", *outputs, PROTO]
    plugins = str(Path(sys.executable).parent)  # protoc looks for mypy-protobuf's plugins on the PATH
    environment = {**os.environ, "PATH": os.pathsep.join([plugins, os.environ.get("PATH", os.defpath)])}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
