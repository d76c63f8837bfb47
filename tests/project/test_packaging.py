"""What a user of pip gets: what is native where a compiler and libraries are at hand, and all the rest without them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.generate_stubs import ROOT
from serving.wire.native.library import PACKAGES, is_built
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ENGINE = "serving/engine/native/liblstm_native.so"
FRONT = "serving/wire/native/liblstm_front.so"
PYTHON_FILES = {
    path.relative_to(ROOT).as_posix()
    for package in ("serving", "export")
    for pattern in ("*.py", "*.pyi", "py.typed")
    for path in (ROOT / package).rglob(pattern)
}


def build(folder: Path, **environment: str) -> Path:
    """Build a wheel from this checkout, offline, with the environment changed as told."""
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pure"), CXX="/no/such/compiler")


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here (apt-get install g++)")
def test_a_wheel_built_with_a_compiler_carries_the_library_for_every_python(tmp_path: Path) -> None:
    wheel = build(tmp_path)

    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    assert content(wheel) - {FRONT} == PYTHON_FILES | {ENGINE}
    assert (FRONT in content(wheel)) == is_built(), "it takes what the front of this checkout took"


def test_a_wheel_built_without_a_compiler_is_pure_python(pure: Path) -> None:
    """Nor does it take along the library that a checkout may have from an earlier day."""
    assert pure.name.endswith("-py3-none-any.whl")
    assert content(pure) == PYTHON_FILES


@pytest.fixture(scope="module")
def program(pure: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server of a pure wheel. It goes before this checkout, which is editable here: PYTHONPATH decides, no hook."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", folder, pure], check=True)
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ncd / && PYTHONPATH='{folder}' exec '{sys.executable}' -m serving \"$@\"\n")
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    write_lstm(repository)
    return repository


def test_the_server_of_a_pure_wheel_serves_and_says_what_would_make_it_faster(program: Path, models: Path) -> None:
    with LocalServer(models, program=program) as server:
        lines = [line for line in server.log if "the native front was not built" in line]
        assert len(lines) == 1
        assert PACKAGES in lines[0]
    assert server.process.returncode == 0


def test_a_native_front_that_is_not_there_ends_the_start(program: Path, models: Path) -> None:
    with pytest.raises(RuntimeError, match="the native front is not there") as ended:
        LocalServer(models, "--wire", "native", program=program)
    assert f"apt-get install {PACKAGES}" in str(ended.value)
    assert "--wire grpcio" in str(ended.value)
    assert "Traceback" not in str(ended.value)
