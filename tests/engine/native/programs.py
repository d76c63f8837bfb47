"""C++ programs of this folder, built with the engine in them."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "serving" / "engine" / "native"
CMAKE = shutil.which("cmake", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")

needs_compiler = pytest.mark.skipif(
    CMAKE is None or shutil.which("c++") is None,
    reason="no C++ compiler or no cmake here (apt-get install g++; pip install cmake)",
)


def build(folder: Path, program: str, sanitizers: str = "") -> Path:
    """Build a program of this folder with the engine in it and return its path."""
    assert CMAKE is not None
    options = [f"-DPROGRAM={HERE / program}", f"-DSANITIZE={sanitizers}"]
    options += ["-DCMAKE_CXX_FLAGS_RELEASE=-O1"] if sanitizers else []  # -O3 takes a minute more to compile
    subprocess.run([CMAKE, "-S", SOURCES, "-B", folder, *options], check=True, capture_output=True)
    subprocess.run(
        [CMAKE, "--build", folder, "--parallel", "2", "--target", "program"], check=True, capture_output=True
    )
    return folder / "program"
