"""The server in an environment of its own: installed with `[cpu]` only, it has no torch and needs none."""

import re
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import sequence, tensor
from training.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment as the serving image has it: the package and ONNX Runtime."""
    source = tmp_path_factory.mktemp("source")  # building in the repository would leave files there
    for name in ("serving", "export"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    environment = tmp_path_factory.mktemp("serving environment")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", f"{source}[cpu]"], check=True
    )
    return python


def test_the_server_imports_and_serves_without_torch(python: Path, repository: Path) -> None:
    packages = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.lower()
    subprocess.run([python, "-c", "import serving"], cwd=repository, check=True)

    assert not re.search(r"^(torch|onnx|onnxscript|scikit-learn|pandas|rich|matplotlib)==", packages, re.MULTILINE)
    with (
        LocalServer(repository, program=python.with_name("lstm-serve")) as server,
        triton.InferenceServerClient(server.address) as client,
    ):
        answer = client.infer("lstm", [tensor("x", sequence(np.random.default_rng(1), 2, 4))])
        assert answer.as_numpy("steps").shape == (2, 4, 8)
