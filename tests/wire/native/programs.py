"""C++ programs of this folder, built with parts of the front in them."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.wire.native.library import PACKAGES
from serving.wire.native.versions import version_of
from tests.engine.native.programs import CMAKE
from tests.wire.native.versions import VERSIONS, Version

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCES = ROOT / "serving" / "wire" / "native"
CLANG = "clang++-14"
FUZZER_PACKAGES = "clang-14 libclang-rt-14-dev"


def _has_fuzzer() -> bool:
    if shutil.which(CLANG) is None:
        return False
    asked = subprocess.run([CLANG, "-print-resource-dir"], capture_output=True, text=True, check=True)
    return any(Path(asked.stdout.strip()).glob("lib/**/libclang_rt.fuzzer*"))


needs_compiler = pytest.mark.skipif(
    CMAKE is None or shutil.which("c++") is None or shutil.which("protoc") is None,
    reason=f"no C++ compiler, no protoc or no cmake here (apt-get install {PACKAGES}; pip install cmake)",
)
needs_fuzzer = pytest.mark.skipif(
    not _has_fuzzer(), reason=f"no {CLANG} with libFuzzer here (apt-get install {FUZZER_PACKAGES})"
)


def build(
    folder: Path, program: str, parts: Sequence[str], sanitizers: str = "", *, compiler: str = "c++", level: int = 1
) -> Path:
    """Build a program of this folder with parts of the front in it, optimized so far, and return its path."""
    assert CMAKE is not None
    options = [f"-DFRONT_PROGRAM={HERE / program}", f"-DFRONT_PARTS={';'.join(parts)}", f"-DSANITIZE={sanitizers}"]
    options += [f"-DCMAKE_CXX_COMPILER={compiler}", "-DFRONT_REQUIRED=ON", f"-DCMAKE_CXX_FLAGS_RELEASE=-O{level}"]
    for step in (["-S", SOURCES, "-B", folder, *options], ["--build", folder, "-j", "2", "--target", "front_program"]):
        ran = subprocess.run([CMAKE, *step], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "front_program"


def write_version(folder: Path, version: Version) -> Path:
    """Write a version as the library is told of it."""
    path = folder / version.manifest.name
    path.write_bytes(version_of(version.manifest, version.policy).SerializeToString())
    return path


def write_versions(folder: Path) -> list[Path]:
    """Write versions of every kind."""
    return [write_version(folder, version) for version in VERSIONS]
