"""`lstm-serve` on the command line, before it serves: what it says, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.generate_configuration import PAGE, page
from serving import __version__
from serving.config import ServerConfig
from serving.engine.cpu_budget import read_cpu_budget


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, because it takes over the logging of the one that it runs in."""
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model-repository: is needed"),
        (["--model-repository", "m", "--grpc-port", "70000"], "--grpc-port: Input should be less than or equal"),
        (
            ["--model-repository", "m", "--grpc-prot", "7000"],
            "--grpc-prot: no such argument, did you mean --grpc-port?",
        ),
        (["--model-repository", "m", "--grpc-p=7000"], "--grpc-p: no such argument, did you mean --grpc-port?"),
        (["--model-repository", "m", "models"], "models: no such argument"),
        (
            ["--model-repository", "m", "--no-reflecton"],
            "--no-reflecton: no such argument, did you mean --no-reflection?",
        ),
        (["--model-repository"], "--model-repository: expected one argument"),
        (["statsu", "localhost"], "statsu: no such argument, did you mean status?"),
        (["--print-completion", "csh"], "--print-completion: invalid choice: 'csh'"),
        (["--print-config"], "--model-repository: is needed"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_what_is_wrong(arguments: list[str], text: str) -> None:
    ended = run(*arguments)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"lstm-serve: {ended.stderr.removeprefix('lstm-serve: ').splitlines()[0]}\n"
    assert text in ended.stderr
    assert ended.stderr.endswith("; see lstm-serve --help\n")


def test_a_repository_that_is_not_there_ends_with_code_1(tmp_path: Path) -> None:
    ended = run("--model-repository", str(tmp_path / "none"))

    assert ended.returncode == 1
    assert "--model-repository takes the folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_more_threads_than_cores_end_with_code_1(tmp_path: Path) -> None:
    threads = read_cpu_budget().threads + 1
    ended = run("--model-repository", str(tmp_path), "--threads", str(threads))

    assert ended.returncode == 1
    assert f"--threads is {threads}, and this process may use {read_cpu_budget()}" in ended.stderr


def test_the_effective_settings_are_printed_with_their_origins(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("model_repository: models of all\nmax_streams: 7\n")

    ended = run("--print-config", f"--config={file}", "--reflection", LSTM_SERVE_GRPC_PORT="9001")

    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert f"model_repository: models of all  # {file}: model_repository" in lines
    assert f"max_streams: 7  # {file}: max_streams" in lines
    assert "grpc_port: 9001  # LSTM_SERVE_GRPC_PORT" in lines
    assert "reflection: true  # --reflection" in lines
    assert "metrics_port: 8002  # default" in lines
    assert "load_model: []  # default" in lines
    assert "# tokens: not set" in lines
    assert len(lines) == len(ServerConfig.model_fields) - 1
    assert yaml.safe_load(ended.stdout)["max_streams"] == 7


def test_help_and_version() -> None:
    assert run("--version").stdout == f"lstm-serve {__version__}\n"
    text = run("--help").stdout
    assert all(f"--{field.replace('_', '-')}" in text for field in ServerConfig.model_fields)


def test_every_setting_has_a_description_and_they_are_the_documented_ones() -> None:
    assert all(field.description for field in ServerConfig.model_fields.values())
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run `make docs`"
