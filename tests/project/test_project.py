"""What must hold for the repository as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.generate_stubs import ROOT, generate
from serving.wire.native.library import PACKAGES

STUBS = [
    *("open_inference_pb2.py", "open_inference_pb2.pyi", "open_inference_pb2_grpc.py", "open_inference_pb2_grpc.pyi"),
    *("seam_pb2.py", "seam_pb2.pyi"),
]


def test_the_committed_stubs_are_what_the_proto_file_gives(tmp_path: Path) -> None:
    generate(tmp_path)

    written = tmp_path / "serving" / "_proto"
    assert sorted(path.name for path in written.iterdir()) == STUBS
    for name in STUBS:
        assert (written / name).read_text() == (ROOT / "serving" / "_proto" / name).read_text(), "run `make proto`"


@pytest.mark.parametrize("module", ["serving", "serving.app", "serving.__main__"])
def test_the_server_loads_nothing_that_only_the_exporter_needs(module: str) -> None:
    """A fresh interpreter imports the server; torch and its company must not come with it, however indirectly."""
    program = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "serving" in loaded
    assert {"torch", "onnx", "onnxscript", "export", "training", "pickle5", "sklearn", "rich"}.isdisjoint(loaded)


def test_every_make_target_is_in_the_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.split(":")[1].strip() for line in makefile.splitlines() if line.startswith(".PHONY:")}
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert targets == {line.split()[1] for line in listed.splitlines()}


@pytest.mark.parametrize(
    "path",
    [
        *(".ci/run", "Dockerfile", "Makefile", "README.md", "deploy/image/install.sh", "scripts/venv.sh"),
        "serving/wire/native/CMakeLists.txt",
    ],
)
def test_whoever_builds_the_native_front_names_all_that_it_takes(path: str) -> None:
    words = (ROOT / path).read_text().replace('"', " ").replace("`", " ").replace(",", " ").replace(")", " ").split()

    assert {name for name in PACKAGES.split() if name != "g++"} <= set(words)
