"""Settings: flags before environment, and wrong ones end the start with the flag's name."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import CliApp

from serving.__main__ import main
from serving.config import ServerConfig


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_SERVE_GRPC_PORT", "9001")
    monkeypatch.setenv("LSTM_SERVE_HOST", "0.0.0.0")  # noqa: S104  a value, nothing is bound

    config = CliApp.run(ServerConfig, cli_args=["--model-repository", "models", "--grpc-port", "7001"])

    assert (config.model_repository, config.grpc_port, config.host) == (Path("models"), 7001, "0.0.0.0")  # noqa: S104


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model-repository: Field required"),
        (["--model-repository", "m", "--grpc-port", "70000"], "--grpc-port: Input should be less than or equal"),
        (["--model-repository", "m", "--threads", "0"], "--threads: Input should be greater"),
        (["--model-repository", "m", "--device", "tpu"], "tpu"),
        (["--model-repository", "m", "--engine", "tpu"], "tpu"),
        (["--model-repository", "m", "--log-format", "xml"], "xml"),
        (["--model-repository", "m", "--tracing-endpoint", "collector:4318"], "--tracing-endpoint: URL"),
        (["--model-repository", "m", "--tracing-sample-ratio", "2"], "--tracing-sample-ratio: Input should be less"),
        (["--model-repository", "m", "--colour", "red"], "--colour"),
    ],
)
def test_a_wrong_setting_ends_with_code_2_and_its_name(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as exit_:  # argparse's own way out
        code = int(str(exit_.code))

    assert code == 2
    assert text in capsys.readouterr().err


def test_a_repository_that_is_not_there_ends_with_code_1(tmp_path: Path) -> None:
    """In a process of its own, because the server takes over the logging of the one that it runs in."""
    command = [sys.executable, "-m", "serving", "--model-repository", tmp_path / "none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "--model-repository takes the folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in ServerConfig.model_fields.values())
