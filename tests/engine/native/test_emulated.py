"""The VNNI and AVX-512 kernels, with their instructions emulated: the same bits as plain C++ gives."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.engine.native import library
from serving.engine.native.library import RecurrentLayer, instruction_sets
from tests.engine.native.exact import open_layers, random_layer
from tests.engine.native.programs import HERE, SOURCES, needs_compiler
from tests.engine.native.test_invariance import batch_of

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not Path("/usr/include/simde").is_dir(), reason="no SIMDe here (apt-get install libsimde-dev)"),
    pytest.mark.skipif("avx2" not in instruction_sets(), reason="this processor has no AVX2"),
]
COMPILE = ["c++", "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-psabi"]
AVX2 = ["-mavx2", "-mfma"]
EMULATED = [*AVX2, "-include", str(HERE / "emulated.h")]
KERNELS = {"portable": [], "avx2": AVX2, "avxvnni": EMULATED, "avx512vnni": EMULATED}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that offers all kernels."""
    folder = tmp_path_factory.mktemp("emulated")
    others = [SOURCES / "src" / f"{name}.cpp" for name in ("api", "pool", "weights_file")]
    sources: dict[Path, list[str]] = {path: [] for path in [*others, HERE / "emulated_dispatch.cpp"]}
    sources |= {SOURCES / "src" / f"kernel_{name}.cpp": flags for name, flags in KERNELS.items()}
    compilers = [
        subprocess.Popen([*COMPILE, f"-I{SOURCES / 'src'}", *flags, "-c", source, "-o", folder / f"{source.stem}.o"])
        for source, flags in sources.items()
    ]
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)
    path = folder / "emulated.so"
    subprocess.run(["c++", "-shared", "-pthread", *sorted(folder.glob("*.o")), "-o", path], check=True)
    return path


@pytest.fixture
def all_instruction_sets(emulated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of all kernels, in the library's place."""
    library.load_library.cache_clear()
    monkeypatch.setattr(library, "LIBRARY", emulated)
    yield instruction_sets()
    library.load_library.cache_clear()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("operator", "inputs", "hidden", "rows"),
    [("LSTM", 40, 70, 19), ("GRU", 7, 33, 8), ("RNN", 1, 16, 3), ("LSTM", 16, 64, 1), ("GRU", 64, 17, 2)],
)
def test_every_kernel_gives_the_same_bits(
    tmp_path: Path,
    all_instruction_sets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    operator: str,
    inputs: int,
    hidden: int,
    rows: int,
    seed: int,
) -> None:
    layer = random_layer(seed, operator, "bidirectional", inputs, hidden)
    batch = batch_of(layer, seed, rows, 12)
    answers = {}
    assert all_instruction_sets == ["avx512vnni", "avxvnni", "avx2", "portable"]
    for name in all_instruction_sets:
        monkeypatch.setenv("LSTM_NATIVE_ISA", name)
        weights = open_layers(tmp_path, [layer])
        assert weights.instruction_set == name
        sums, _ = weights.sums(0, 1, 1, batch["initial_h"][1])
        answers[name] = (sums, *RecurrentLayer(weights, 0, threads=1).run(**batch))
    for name, answer in answers.items():
        for found, expected in zip(answer, answers["portable"], strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=name)
