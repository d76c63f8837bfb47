"""README's promises: the demo runs, and every command and snippet in it works as printed."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from serving.config import ServerConfig
from serving.policy import Policy
from tests.socket.readme import README, blocks
from training.local_server import LocalServer


def test_the_demo_shows_accuracy_metrics_and_how_to_go_on(demo: str) -> None:
    """FP32 through the server equals PyTorch, and INT8 is within a percentage point, or the demo itself fails."""
    for text in ("PyTorch", "FP32", "INT8", "lstm_requests_total", "lstm-serve --model-repository"):
        assert text in demo


def test_the_call_in_the_readme_works_against_the_exported_model(
    newcomers_server: LocalServer, workplace: Path
) -> None:
    (snippet,) = blocks("python")
    ended = subprocess.run(
        [workplace / ".venv" / "bin" / "python", "-c", snippet.replace("127.0.0.1:8001", newcomers_server.address)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.fullmatch(r"\[[0-8]\]\n", ended.stdout)


SERVE = "lstm-serve --model-repository models"
SERVE_COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith(SERVE)]


def test_the_serve_command_is_the_programs_own(newcomers_server: LocalServer) -> None:
    assert SERVE in SERVE_COMMANDS
    assert any("loaded my-speaker version 2: int8 on cpu" in line for line in newcomers_server.log)


@pytest.mark.parametrize("command", [command for command in SERVE_COMMANDS if command != SERVE])
def test_every_other_serve_command_serves(newcomers_models: Path, command: str) -> None:
    with LocalServer(newcomers_models, *shlex.split(command.removeprefix(SERVE))) as server:
        assert any("loaded my-speaker version 2" in line for line in server.log)


def test_model_yaml_is_documented_key_by_key() -> None:
    for name, field in Policy.model_fields.items():
        default = "none" if field.default is None else field.default
        assert f"| `{name}` | {default} | {field.description} |" in README


def test_the_ports_in_the_readme_are_the_defaults() -> None:
    fields = ServerConfig.model_fields

    assert f"port {fields['grpc_port'].default}" in README
    assert f"metrics on {fields['metrics_port'].default}" in README
