"""KServe's own Python client against a real server, in an environment of its own: its protobuf and ours would clash.

It brings the stubs of the protocol's published proto, so what it reads is what that proto says.
"""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.socket.conftest import sequence
from tests.socket.test_protocol import by_hand
from tests.socket.triton_clients import TOKEN, write_tokens
from tests.support.artefacts import FEATURES, write_ctc, write_lstm
from training.local_server import LocalServer

HERE = Path(__file__).parent
X = sequence(np.random.default_rng(21), 3, 6)
UNREACHABLE = re.compile("after connection broken by")
"""How pip says that it asked an index and nobody answered."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the environment; KServe's model server is left out, which is most of what KServe would install."""
    if sys.version_info >= (3, 14):
        pytest.skip("KServe 0.21 takes Python up to 3.13")
    environment = tmp_path_factory.mktemp("kserve environment")
    venv.create(environment, with_pip=False)
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install"]
    command += ["--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:", "--retries", "2"]
    command += ["-r", HERE / "kserve_requirements.txt"]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode and UNREACHABLE.search(installed.stderr) and not os.environ.get("CI"):
        pytest.skip(f"pip reaches no index for KServe's client: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return environment / "bin" / "python"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm", 1)
    write_lstm(root, "lstm", 2, seed=2)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_ctc(root)
    write_lstm(root, "slow", hidden=128)
    (root / "slow" / "model.yaml").write_text("max_steps: 100000\n")
    tampered = write_lstm(root, "tampered") / "model.onnx"
    tampered.write_bytes(tampered.read_bytes()[:-1])
    return root


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Ask for a token, so that headers are seen to arrive."""
    tokens = write_tokens(tmp_path_factory.mktemp("secret") / "tokens.yaml")
    with LocalServer(models, "--tokens", str(tokens)) as server:
        yield server


@pytest.fixture(scope="module")
def told(python: Path, served: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what KServe's client was told."""
    array = tmp_path_factory.mktemp("input") / "x.npy"
    np.save(array, X)
    command = [python, "-I", "-B", HERE / "kserve_client.py", served.address, TOKEN, array]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def values(answer: Any, name: str) -> np.ndarray:
    """Return one output, in the shape that it says it has."""
    output = answer["outputs"][name]
    assert output["datatype"] == "FP32"
    return np.array(output["values"], np.float32).reshape(output["shape"])


def test_liveness_and_readiness(told: Any) -> None:
    assert told["ready"] == {"live": True, "ready": True, "lstm": True, "tampered": False}


@pytest.mark.parametrize("way", ["raw", "typed", "parameters"])
def test_an_answer_is_what_onnxruntime_alone_computes(told: Any, models: Path, way: str) -> None:
    answer = told["answers"][way]

    assert answer["model"] == ["lstm", "2"]
    assert set(answer["outputs"]) == {"steps", "last"}
    for name, expected in by_hand(models, "lstm", X, 2).items():
        assert answer["outputs"][name]["shape"] == list(expected.shape)
        np.testing.assert_allclose(values(answer, name), expected, rtol=1e-5, atol=1e-6)


def test_the_id_comes_back(told: Any) -> None:
    assert told["answers"]["raw"]["id"] == "mine"


@pytest.mark.parametrize("way", ["raw lengths", "typed lengths"])
def test_padded_rows_may_say_their_lengths(told: Any, models: Path, way: str) -> None:
    last = values(told["answers"][way], "last")

    for row in range(len(X)):
        alone = by_hand(models, "lstm", X[row : row + 1, : row + 1], 2)["last"]
        np.testing.assert_allclose(last[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_a_version_and_outputs_can_be_chosen(told: Any, models: Path) -> None:
    assert told["answers"]["version"]["model"] == ["lstm", "1"]
    first = by_hand(models, "lstm", X, 1)["last"]
    np.testing.assert_allclose(values(told["answers"]["version"], "last"), first, rtol=1e-5, atol=1e-6)
    assert set(told["answers"]["one output"]["outputs"]) == {"last"}


def test_a_sequence_goes_on_in_pieces_by_its_state(told: Any) -> None:
    whole, rest = told["answers"]["whole"], told["answers"]["in pieces"]

    assert whole["outputs"]["state"]["datatype"] == "UINT8"
    np.testing.assert_allclose(values(rest, "last"), values(whole, "last"), rtol=1e-5, atol=1e-6)
    steps = values(rest, "steps")
    np.testing.assert_allclose(steps, values(whole, "steps")[:, -steps.shape[1] :], rtol=1e-5, atol=1e-6)


def test_text_comes_as_bytes_one_per_row(told: Any) -> None:
    text = told["answers"]["text"]["outputs"]["text"]

    assert (text["datatype"], text["shape"]) == ("BYTES", [len(X)])
    assert len(text["values"]) == len(X)
    assert any(text["values"])


def test_metadata_says_names_shapes_and_types(told: Any) -> None:
    name, extensions = told["server"]
    assert name == "lstm-serve"
    assert "statistics" in extensions
    assert told["metadata"] == {
        "model": ["lstm", ["1", "2"], "onnxruntime_onnx"],
        "inputs": [["x", "FP32", [-1, -1, FEATURES]]],
        "outputs": [["steps", "FP32", [-1, -1, 8]], ["last", "FP32", [-1, 8]]],
    }


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("no token", "UNAUTHENTICATED", "authorization: Bearer"),
        ("model", "NOT_FOUND", "'nobody'"),
        ("ready", "NOT_FOUND", "'nobody'"),
        ("datatype", "INVALID_ARGUMENT", "datatype 'FP64'"),
        ("timeout", "DEADLINE_EXCEEDED", ""),
        ("load", "INVALID_ARGUMENT", "KServe"),
    ],
)
def test_errors_have_the_status_that_the_client_hands_on(told: Any, case: str, code: str, words: str) -> None:
    assert told["failures"][case][0] == code
    assert words in told["failures"][case][1]
