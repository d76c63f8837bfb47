"""The load generator, built once; what needs it is skipped where it cannot be."""

import shutil
import subprocess
from pathlib import Path

import pytest

from loadtests.generator.program import PACKAGES, build
from tests.loadtests.generating import Generator


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        pytest.skip(f"no C compiler: {PACKAGES}")
    probe = ["cc", "-fsyntax-only", "-x", "c", "-"]
    if subprocess.run(probe, input=b"#include <nghttp2/nghttp2.h>", capture_output=True, check=False).returncode:
        pytest.skip(f"no nghttp2 header: {PACKAGES}")
    return build(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def generator(program: Path, tmp_path: Path) -> Generator:
    return Generator(program, tmp_path)
