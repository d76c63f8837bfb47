"""What a user of pip gets: with a C++ compiler the native engine too, with gRPC's library the native front, without them all the rest."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.generate_stubs import ROOT
from serving.wire.native.library import is_built

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


def test_the_server_of_a_pure_wheel_starts(pure: Path, tmp_path: Path) -> None:
    """It also goes before this checkout, which is installed editable here: PYTHONPATH decides, no import hook."""
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", tmp_path, pure], check=True)

    program = "import serving.app, serving.engine.native, serving.wire.native; print(serving.app.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    started = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(started.stdout.strip()).is_relative_to(tmp_path)
