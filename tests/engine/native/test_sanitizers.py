"""The C++ under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from serving.engine.native.library import instruction_sets
from serving.engine.native.weights import pack
from tests.engine.native.exact import random_layer
from tests.engine.native.programs import build, needs_compiler

ROUNDS = 60

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.bin"
    layers = [
        random_layer(1, "LSTM", "bidirectional", 5, 9, peephole=True),
        random_layer(2, "GRU", "reverse", 9, 33),
        random_layer(3, "GRU", "bidirectional", 40, 17, linear_before_reset=True),
        random_layer(4, "RNN", "forward", 1, 1, relu=True),
    ]
    path.write_bytes(pack(layers))
    return path


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_no_sanitizer_finds_anything(tmp_path: Path, weights: Path, sanitizers: str) -> None:
    program = build(tmp_path, "stress.cpp", sanitizers)
    for name in instruction_sets():
        ran = subprocess.run(
            [program, weights, str(ROUNDS)],
            env={**os.environ, "LSTM_NATIVE_ISA": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        accepted = re.search(r"(\d+) damaged files", ran.stdout)
        assert accepted is not None
        assert 0 < int(accepted[1]) < ROUNDS * 10
