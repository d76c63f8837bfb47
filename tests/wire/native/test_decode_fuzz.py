"""Bytes that libFuzzer makes of good requests, led by what they reach: the decoder and all that follows must take any.

`decode_fuzz.cpp` is the target. A finding is written to the test's folder, and `front_program FILE` runs it again.
"""

import os
import re
import subprocess
from pathlib import Path
from random import Random

from tests.fuzz.good import good
from tests.wire.native.programs import CLANG, build, needs_compiler, needs_fuzzer, write_versions
from tests.wire.native.versions import VERSIONS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
SEEDS_OF_EACH = 20
FEWEST_RUNS = 1000
LIMITS = ("-max_len=65536", "-rss_limit_mb=2048", "-timeout=25")

pytestmark = [needs_compiler, needs_fuzzer]


def write_seeds(folder: Path) -> None:
    """Write good requests for each version, and behind each the version's number and what spans are drawn with."""
    folder.mkdir()
    rng = Random(1)  # noqa: S311  repeatable
    for number, version in enumerate(VERSIONS):
        for seed in range(SEEDS_OF_EACH):
            content = good(rng, version.target).SerializeToString()
            choosing = bytes([number]) + seed.to_bytes(4, "little")
            (folder / f"{version.manifest.name}-{seed}").write_bytes(content + choosing)


def test_no_bytes_do_harm(tmp_path: Path) -> None:
    program = build(
        tmp_path / "build", "decode_fuzz.cpp", ("request", "signature"), "fuzzer,address,undefined", compiler=CLANG
    )
    versions = ":".join(map(str, write_versions(tmp_path)))
    write_seeds(tmp_path / "seeds")

    ran = subprocess.run(
        [program, f"-max_total_time={SECONDS}", "-print_final_stats=1", *LIMITS, tmp_path / "seeds"],
        env={**os.environ, "FRONT_VERSIONS": versions},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr[-20_000:]
    executed = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    assert executed is not None
    assert int(executed[1]) > FEWEST_RUNS
