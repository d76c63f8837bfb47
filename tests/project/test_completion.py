"""What bash completes of our programs' arguments, in a real bash that has read their scripts."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from serving.completion import SHELLS, completion
from serving.errors import ConfigError

BIN = Path(sys.executable).parent
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script_of(program: str, shell: str) -> str:
    command = [BIN / program, "--print-completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the bash script of each program, which has a file `a.pem` and a folder `models` too."""
    folder = tmp_path_factory.mktemp("completion")
    for program in ("lstm-serve", "lstm-export"):
        (folder / program).write_text(script_of(program, "bash"))
    (folder / "a.pem").touch()
    (folder / "models").mkdir()
    return folder


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lstm-serve --grpc-p", {"--grpc-port"}),
        ("lstm-serve --no-ref", {"--no-reflection"}),
        ("lstm-serve --device c", {"cpu", "cuda"}),
        ("lstm-serve --model-control ", {"none", "poll", "explicit"}),
        ("lstm-serve --print-completion ", set(SHELLS)),
        ("lstm-serve --tls-key a", {"a.pem"}),
        ("lstm-serve --model-repository ", {"models"}),
        ("lstm-serve sta", {"status"}),
        ("lstm-serve status --onc", {"--once"}),
        ("lstm-serve status --tls-ca a", {"a.pem"}),
        ("lstm-export qua", {"quantize"}),
        ("lstm-export quantize --engine ", {"auto", "native", "onnxruntime"}),
        ("lstm-export torch --output ", {"models"}),
        ("lstm-export onnx a", {"a.pem"}),
    ],
)
def test_bash_completes(scripts: Path, words: str, completed: set[str]) -> None:
    line = words.split(" ")
    ended = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", scripts / line[0], *line],
        capture_output=True, text=True, check=True, cwd=scripts,
    )  # fmt: skip

    assert set(ended.stdout.split()) == completed, ended.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", ["lstm-serve", "lstm-export"])
def test_every_shell_has_a_script(program: str, shell: str) -> None:
    assert "print" in script_of(program, shell)


def test_without_shtab_it_is_said_what_to_install() -> None:
    with (
        patch.dict(sys.modules, {"shtab": None}),
        pytest.raises(ConfigError, match=r"pip install 'lstm-serving\[cli\]'"),
    ):
        completion(argparse.ArgumentParser(), "bash")


def test_the_servers_status_is_a_command_of_the_program() -> None:
    command = [BIN / "lstm-serve", "status", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})

    assert ended.stdout.startswith("usage: lstm-serve status")
