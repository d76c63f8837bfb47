"""README's promises: the demo runs, and every command and snippet in it works as printed."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.config import ServerConfig
from serving.manifest import Policy
from training.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return README's fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def demo() -> str:
    """Run `make demo` as a newcomer would, and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    ended = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def workplace(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository after the demo, with nothing exported yet."""
    assert demo
    place = tmp_path_factory.mktemp("my project")
    for name in (".venv", "demo-output", "training"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(scope="module")
def server(workplace: Path) -> Iterator[LocalServer]:
    """What `Bring your own model` leaves behind, served."""
    bring_your_own = next(block for block in blocks("sh") if "lstm-export" in block)
    subprocess.run(["sh", "-e", "-c", bring_your_own], cwd=workplace, check=True, timeout=600)
    with LocalServer(workplace / "models") as running:
        yield running


def test_the_demo_shows_accuracy_metrics_and_how_to_go_on(demo: str) -> None:
    """FP32 through the server equals PyTorch, and INT8 is within a percentage point, or the demo itself fails."""
    for text in ("PyTorch", "FP32", "INT8", "lstm_requests_total", "lstm-serve --model-repository"):
        assert text in demo


def test_the_call_in_the_readme_works_against_the_exported_model(server: LocalServer, workplace: Path) -> None:
    (snippet,) = blocks("python")
    ended = subprocess.run(
        [workplace / ".venv" / "bin" / "python", "-c", snippet.replace("127.0.0.1:8001", server.address)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.fullmatch(r"\[[0-8]\]\n", ended.stdout)


def test_the_serve_command_is_the_programs_own(server: LocalServer) -> None:
    (command,) = (block.strip() for block in blocks("sh") if block.startswith("lstm-serve"))

    assert command == "lstm-serve --model-repository models"
    assert any("loaded my-speaker version 2: int8 on cpu" in line for line in server.log)


def test_model_yaml_is_documented_key_by_key() -> None:
    for name, field in Policy.model_fields.items():
        default = "none" if field.default is None else field.default
        assert f"| `{name}` | {default} | {field.description} |" in README


def test_the_ports_in_the_readme_are_the_defaults() -> None:
    fields = ServerConfig.model_fields

    assert f"port {fields['grpc_port'].default}" in README
    assert f"metrics on {fields['metrics_port'].default}" in README
