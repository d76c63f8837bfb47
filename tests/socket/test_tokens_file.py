"""The tokens' file: read again when it changes, refused when it cannot be used, and made as SECURITY.md says."""

import os
import re
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from tritonclient.grpc import service_pb2 as pb

from tests.socket.conftest import read_metric, sequence, tensor
from tests.socket.readme import ROOT
from tests.socket.test_overload import until
from tests.socket.tokens import OK, Entry, call
from tests.support.artefacts import write_lstm
from training.local_server import LSTM_SERVE, LocalServer

MODEL = "lstm"
UNKNOWN = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, MODEL)
    return root


def test_the_file_is_read_again_and_a_bad_one_changes_nothing(models: Path, tmp_path: Path) -> None:
    """Also for a stream that is open: its token's rights end where the file says so."""
    kept, withdrawn, new = Entry("kept", {"models": "*"}), Entry("withdrawn", {"models": "*"}), Entry("new", {})
    secret = tmp_path / "tokens.yaml"

    def write(*entries: Entry) -> None:
        aside = tmp_path / "aside"
        aside.write_text(yaml.safe_dump([entry.written() for entry in entries]))
        aside.rename(secret)

    def codes(channel: grpc.Channel) -> list[grpc.StatusCode]:
        return [
            call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {entry.token}").code
            for entry in (kept, withdrawn, new)
        ]

    write(kept, withdrawn)
    with LocalServer(models, "--tokens", str(secret)) as server, grpc.insecure_channel(server.address) as channel:
        with triton.InferenceServerClient(server.address) as client:
            answers: list[str] = []
            client.start_stream(
                lambda result, error: answers.append(str(error or (result and "ok"))),
                headers={"authorization": f"Bearer {withdrawn.token}"},
            )
            x = [tensor("x", sequence(np.random.default_rng(0), 1, 3))]
            client.async_stream_infer(MODEL, x)
            until(lambda: answers == ["ok"])
            assert codes(channel) == [OK, OK, UNKNOWN]

            write(kept, new)
            until(lambda: codes(channel) == [OK, UNKNOWN, OK])
            client.async_stream_infer(MODEL, x)
            until(lambda: len(answers) == 2)
            assert "not known" in answers[1]

        secret.write_text("- name: half")
        until(lambda: codes(channel) == [OK, UNKNOWN, OK] and any("still hold" in line for line in server.log))
        assert codes(channel) == [OK, UNKNOWN, OK]
        assert read_metric(server, "lstm_requests_total", outcome="unauthenticated") == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read"),
        ("", "expected a list of entries"),
        ("[]", "at least 1 item"),
        ("- name: a\n  sha256: not-a-hash-but-a-secret\n", "0.sha256"),
        ('- name: a\n  sha256: "{}"\n  password: a-secret\n'.format("0" * 64), "0.password"),
        ("- name: a\n  sha256: [a-secret\n", "not valid YAML"),
        ('- name: a-secret\n  name: b\n  sha256: "{}"\n'.format("0" * 64), "not valid YAML in line 2"),
        ('- name: a\n  sha256: "{0}"\n- name: b\n  sha256: "{0}"\n'.format("0" * 64), "two entries"),
    ],
)
def test_a_tokens_file_that_cannot_be_used_ends_the_start_and_is_not_quoted(
    models: Path, tmp_path: Path, content: str | None, text: str
) -> None:
    path = tmp_path / "tokens.yaml"
    if content is not None:
        path.write_text(content)
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", models, "--tokens", path, "--grpc-port", "0", "--metrics-port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert f"--tokens {path}" in ended.stderr
    assert text in ended.stderr
    assert "secret" not in ended.stderr.replace(str(tmp_path), "")
    assert "Traceback" not in ended.stderr


def test_the_recipe_for_a_token_makes_one_that_works(models: Path, tmp_path: Path) -> None:
    block = re.search(r"```sh\n(token=.*?)```", (ROOT / "SECURITY.md").read_text(), re.DOTALL)
    assert block is not None
    made = subprocess.run(
        ["sh", "-e", "-c", block[1]], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True
    )
    token = made.stdout.split()[-1]

    path = str(tmp_path / "tokens.yaml")
    with LocalServer(models, "--tokens", path) as server, grpc.insecure_channel(server.address) as channel:
        answer = call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {token}")
        refused = call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {token}0")
    assert len(token) == 64
    assert (answer.code, refused.code) == (OK, UNKNOWN)
