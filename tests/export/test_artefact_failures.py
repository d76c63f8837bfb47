"""A full disk and Ctrl-C in the middle of writing, in real processes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.manifest import read_manifest
from tests.support.artefacts import write_lstm

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk does, writes then fail with an error
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
WRITER = """
import hashlib, sys
from pathlib import Path
from export.artefact import write_version
from serving.manifest import Manifest, ModelFile, Tensor

content = bytes(3_000_000)
x = Tensor(name="x", datatype="FP32", shape=("batch", "time", 3))
manifest = Manifest(
    name="m", version=1, precision="fp32", inputs=(x,), lengths_input="lengths",
    outputs=(x.model_copy(update={"name": "y"}),), stepwise=False,
    file=ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
    proofs=(), tools={}, created="2026-01-01T00:00:00+00:00",
)
while True:
    print("writing", flush=True)
    write_version(Path(sys.argv[1]), manifest, content, lambda final: {"report.md": bytes(1_000_000)})
"""


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let children hear SIGINT even where the tests run in the background of a script, which ignores it for them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("command", ["quantize", "half"])
@pytest.mark.parametrize("limit", [1_000, 40_000])
def test_a_full_disk_is_one_paragraph_and_leaves_no_folder(tmp_path: Path, command: str, limit: int) -> None:
    """The smaller limit is met by the model file (by quantizing itself, for INT8), the larger one by the report."""
    version = write_lstm(tmp_path, bidirectional=False, stepwise=True)

    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit), command, str(version)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in version.parent.iterdir()] == ["1"]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_while_writing_leaves_whole_versions_only(tmp_path: Path, seed: int) -> None:
    """The signal comes at another place of the loop each time; what is there afterwards reads back."""
    before = int(np.random.default_rng(seed).integers(1, 6))
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(before):
            assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGINT)
        _, errors = writer.communicate(timeout=60)

    assert "KeyboardInterrupt" in errors
    written = sorted((tmp_path / "m").iterdir()) if (tmp_path / "m").exists() else []
    assert len(written) >= before - 1
    assert [path.name for path in written] == sorted(str(number + 1) for number in range(len(written)))
    assert all(read_manifest(path).file.bytes == 3_000_000 for path in written)
    assert all((path / "report.md").stat().st_size == 1_000_000 for path in written)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("after", ["quantizing", "comparing with FP32", "measuring what company does"])
def test_ctrl_c_while_measuring_writes_nothing(tmp_path: Path, after: str) -> None:
    version = write_lstm(tmp_path, bidirectional=False, stepwise=True, hidden=64)
    with subprocess.Popen(
        [sys.executable, "-m", "export", "quantize", str(version)], stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stderr is not None
        assert any(after in line for line in iter(command.stderr.readline, ""))
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)

    assert command.returncode == 130, errors
    assert "interrupted; nothing was written" in errors
    assert [path.name for path in version.parent.iterdir()] == ["1"]
