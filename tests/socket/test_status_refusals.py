"""`lstm-serve status` where it may not look, or nobody answers: whom it shows what, and what it says to others."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.socket.status_command import SECONDS, closed_port, status, table
from tests.socket.test_tls import Authority
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer

TOKENS = {"all": {"models": "*"}, "one": {"models": ["causal"]}}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def guarded(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Path]]:
    """A server with mTLS and tokens, and the folder of everybody's files."""
    folder = tmp_path_factory.mktemp("guarded")
    models = tmp_path_factory.mktemp("models")
    write_lstm(models, "causal", bidirectional=False, stepwise=True)
    for name, pair in (("server", authority.pair()), ("client", authority.pair("client"))):
        (folder / f"{name}.key").write_bytes(pair[0])
        (folder / f"{name}.pem").write_bytes(pair[1])
    (folder / "ca.pem").write_bytes(authority.pem)
    entries = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **TOKENS[name]} for name in TOKENS]
    (folder / "tokens.yaml").write_text(yaml.safe_dump(entries))
    (folder / "token").write_text("all\n")
    flags = {
        "--tls-certificate": "server.pem",
        "--tls-key": "server.key",
        "--tls-client-ca": "ca.pem",
        "--tokens": "tokens.yaml",
    }
    with LocalServer(models, *(part for flag, name in flags.items() for part in (flag, str(folder / name)))) as running:
        yield running, folder


def ours(folder: Path) -> tuple[str, ...]:
    flags = {"--tls-ca": "ca.pem", "--tls-certificate": "client.pem", "--tls-key": "client.key"}
    return tuple(part for flag, name in flags.items() for part in (flag, str(folder / name)))


def test_it_shows_a_server_with_mtls_to_whom_has_certificate_and_token(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    by_file = status(server, *ours(folder), "--token-file", str(folder / "token"))
    by_variable = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": "all"})

    for ended in (by_file, by_variable):
        assert (ended.returncode, ended.stderr) == (0, "")
        assert table(ended.stdout)["causal/1"]["state"] == "ready"


def test_a_token_for_one_model_shows_what_it_may(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    ended = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": "one"})

    assert ended.returncode == 0
    assert table(ended.stdout)["causal/1"]["state"] == "-"
    assert "client 'one' has no right to model '*'" in ended.stdout
    assert "admin: true" in ended.stdout


def test_with_little_right_and_no_metrics_it_says_both(guarded: tuple[LocalServer, Path]) -> None:
    server, folder = guarded
    metrics = ("--metrics-port", str(closed_port()))
    ended = status(server, *metrics, *ours(folder), environment={"LSTM_SERVE_TOKEN": "one"})

    assert ended.returncode == 0
    assert ended.stdout.startswith("lstm-serve 0.1.0 on ")
    assert "States of models are not shown" in ended.stdout
    assert "No metrics from" in ended.stdout


@pytest.mark.parametrize(
    ("token", "text"), [("", "asks for a token"), ("wrong", "does not take this token (the token is not known here)")]
)
def test_a_token_that_is_missing_or_unknown_ends_it(guarded: tuple[LocalServer, Path], token: str, text: str) -> None:
    server, folder = guarded
    ended = status(server, *ours(folder), environment={"LSTM_SERVE_TOKEN": token})

    assert (ended.returncode, ended.stdout) == (1, "")
    assert text in ended.stderr
    assert "LSTM_SERVE_TOKEN" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "wrong" not in ended.stderr, "a token is never repeated"


def test_what_is_wrong_with_tls_is_named(
    guarded: tuple[LocalServer, Path], server: LocalServer, tmp_path: Path
) -> None:
    guarding, folder = guarded
    (tmp_path / "other.pem").write_bytes(Authority().pem)
    for name, content in zip(("key", "pem"), Authority().pair("client"), strict=True):
        (tmp_path / f"foreign.{name}").write_bytes(content)
    foreign = ("--tls-certificate", str(tmp_path / "foreign.pem"), "--tls-key", str(tmp_path / "foreign.key"))
    authority = ("--tls-ca", str(folder / "ca.pem"))
    cases: list[tuple[LocalServer, tuple[str, ...], str]] = [
        (guarding, (), "is encrypted; give --tls"),
        (guarding, ("--tls-ca", str(tmp_path / "other.pem")), "certificate that is not accepted"),
        (guarding, (*authority, "--tls-name", "other.example"), "Hostname mismatch"),
        (guarding, authority, "that asks clients for a certificate (mTLS)"),
        (guarding, (*authority, *foreign), "does not accept the certificate in"),
        (server, ("--tls",), "does not speak TLS; leave out --tls"),
    ]
    for asked, flags, text in cases:
        ended = status(asked, *flags)
        assert (ended.returncode, ended.stdout) == (1, ""), flags
        assert text in ended.stderr, flags
        assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_ports_that_are_others_are_told_apart(server: LocalServer) -> None:
    metrics_port = str(urlsplit(server.metrics_url).port)
    free_port = closed_port()
    wrong = {
        f"127.0.0.1:{free_port}": "nothing listens on",
        f"127.0.0.1:{metrics_port}": "not that of the metrics",
        "no-such-host.invalid": "there is no address for the host 'no-such-host.invalid'",
    }
    for host, text in wrong.items():
        ended = subprocess.run(
            [sys.executable, "-m", "serving.status", host, "--once"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (1, "")
        assert text in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
