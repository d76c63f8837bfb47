"""The serving image without a container engine: its own script installs it, and it runs as a container would.

That is as process 1 of a PID namespace, as a user without rights, on a read-only root file system.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from serving.wire.native.library import PACKAGES, is_built
from tests.socket.conftest import sequence, tensor
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "deploy" / "image" / "install.sh"
HEALTHCHECK = ROOT / "deploy" / "image" / "healthcheck.py"
USER = "65532"
INSTALLED = {
    "annotated-types", "flatbuffers", "grpcio", "grpcio-health-checking", "grpcio-reflection", "lstm-serving", "numpy",
    "onnxruntime", "packaging", "prometheus-client", "protobuf", "pydantic", "pydantic-core", "pydantic-settings",
    "python-dotenv", "pyyaml", "typing-extensions", "typing-inspection",
}  # fmt: skip
"""All of it: no torch, no pip, and nothing that only built the package (CMake, Ninja, scikit-build-core)."""
LIST = """
import importlib.metadata
for each in importlib.metadata.distributions():
    print(each.name.lower().replace("_", "-").replace(".", "-"), each.version)
"""
AS_A_CONTAINER = """\
#!/bin/sh
# Process 1 of its own PID namespace, with a root file system that it cannot write, as a user that has no rights.
exec unshare --mount --pid --fork --kill-child --mount-proc sh -c '
    set -e
    {open_up}
    mount -o remount,bind,ro /
    exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \\
        env -i PATH={bin} LSTM_SERVE_LOG_FORMAT=text lstm-serve "$@"
' lstm-serve "$@"
"""
OPEN_UP = """
    mount --bind {prefix} {spare}
    mount -t tmpfs -o mode=755 tmpfs {closed}
    mkdir -p {prefix}
    mount --bind {spare} {prefix}
"""
"""An interpreter in a folder that others may not enter (a home) is shown in an open one of the namespace's own."""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that other users can read, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="lstm-image-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def environment(place: Path) -> Path:
    """What the image has in /opt/lstm-serve."""
    if not is_built():
        pytest.skip(f"the image's build needs what the native front does: apt-get install {PACKAGES}")
    target = place / "lstm-serve"
    subprocess.run(["sh", INSTALL, "cpu", target], env={**os.environ, "PYTHON": sys.executable}, check=True)
    return target


@pytest.fixture(scope="module")
def models(place: Path) -> Path:
    repository = place / "models"
    write_lstm(repository)
    return repository


@pytest.fixture(scope="module")
def packages(environment: Path) -> dict[str, str]:
    """Return the version of each package of the image."""
    listed = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", LIST], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split() for line in listed.splitlines())


def test_the_image_has_what_serves_and_nothing_else(packages: dict[str, str]) -> None:
    assert packages.keys() == INSTALLED


def test_versions_are_those_that_the_tests_run_with(packages: dict[str, str]) -> None:
    pinned = {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    }

    assert {name: pinned[name] for name in packages.keys() - {"lstm-serving"}} == {
        name: version for name, version in packages.items() if name != "lstm-serving"
    }


@pytest.mark.parametrize(("part", "library"), [("engine", "liblstm_native.so"), ("wire", "liblstm_front.so")])
def test_what_is_native_was_compiled_and_its_sources_left_out(environment: Path, part: str, library: str) -> None:
    (native,) = environment.glob(f"lib/python*/site-packages/serving/{part}/native")

    assert (native / library).is_file()
    assert not (native / "src").exists()


def test_the_size_is_the_one_that_is_documented(
    environment: Path, record_property: Callable[[str, object], None]
) -> None:
    told = subprocess.run(["du", "-sm", environment], capture_output=True, text=True, check=True).stdout
    mebibytes = int(told.split()[0])
    record_property("installed MiB", mebibytes)
    print(f"the serving environment takes {mebibytes} MiB")  # noqa: T201  shown by pytest -rP
    (documented,) = re.findall(r"(\d+) MiB installed", (ROOT / "deploy" / "README.md").read_text())

    assert mebibytes == pytest.approx(int(documented), rel=0.1)


@pytest.fixture
def program(environment: Path, place: Path) -> Path:
    """Return a program that runs the image's entry point as a container would; skip where none may."""
    missing = [name for name in ("unshare", "setpriv") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"without {' and '.join(missing)}: install util-linux")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"namespaces take root, and a kernel that allows them: {tried.stderr.strip()}")
    script = place / "as-a-container"
    script.write_text(AS_A_CONTAINER.format(user=USER, bin=environment / "bin", open_up=open_up(place / "interpreter")))
    script.chmod(0o755)
    return script


def open_up(spare: Path) -> str:
    """Return the commands that let other users get to the interpreter in a mount namespace; none if they can."""
    prefix = Path(sys.base_prefix).resolve()
    closed = [parent for parent in reversed(prefix.parents) if not parent.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ""
    spare.mkdir()
    return OPEN_UP.format(prefix=prefix, spare=spare, closed=closed[0])


def process_1(server: LocalServer) -> int:
    """Return the process id, outside, of what is process 1 inside."""
    parent = server.process.pid
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


def healthcheck(environment: Path, metrics_port: str) -> subprocess.CompletedProcess[str]:
    command = [environment / "bin" / "python", "-I", HEALTHCHECK]
    variables = {"LSTM_SERVE_METRICS_PORT": metrics_port}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_the_entry_point_serves_and_ends_with_0_at_sigterm(program: Path, environment: Path, models: Path) -> None:
    with LocalServer(models, program=program) as server:
        status = Path(f"/proc/{process_1(server)}/status").read_text()
        assert re.search(rf"^Uid:\t{USER}\t{USER}\t{USER}\t{USER}$", status, re.MULTILINE)
        assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), "it is process 1, to which signals are special"
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)

        with triton.InferenceServerClient(server.address) as client:
            answer = client.infer("lstm", [tensor("x", sequence(np.random.default_rng(1), 2, 4))])
        assert answer.as_numpy("steps").shape == (2, 4, 8)

        port = server.metrics_url.partition("//")[2].partition(":")[2].partition("/")[0]
        assert healthcheck(environment, port).returncode == 0

        os.kill(process_1(server), signal.SIGTERM)
        assert server.process.wait(60) == 0, "".join(server.log)
        gone = healthcheck(environment, port)
        assert (gone.returncode, gone.stderr) == (1, "")


def test_the_server_of_the_image_needs_nothing_of_this_checkout(environment: Path, models: Path) -> None:
    """Where no container can be imitated, it is at least the installed server that runs."""
    with LocalServer(models, program=environment / "bin" / "lstm-serve") as server:
        executable = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")[0]
        assert Path(executable.decode()).is_relative_to(environment)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tpu", "/nowhere"], "DEVICE is 'tpu', expected cpu or gpu"),
        ([], "DEVICE is '', expected cpu or gpu"),
        (["cpu", "here"], "TARGET is 'here', expected an absolute path"),
        (["cpu", "/"], "is there already"),
    ],
)
def test_the_script_refuses_what_it_cannot_do(arguments: list[str], told: str) -> None:
    ended = subprocess.run(["sh", INSTALL, *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert told in ended.stderr
