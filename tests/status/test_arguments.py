"""The command line: what it takes, what it refuses and with which words, and what it needs to be read."""

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from serving.status import main, parser
from serving.status.arguments import Options, options

TOKEN = "LSTM_SERVE_TOKEN"  # noqa: S105  its variable


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "host", "address"),
    [
        ([], "127.0.0.1", "127.0.0.1:8001"),
        (["db1"], "db1", "db1:8001"),
        (["db1:9001"], "db1", "db1:9001"),
        (["db1", "--grpc-port", "9001"], "db1", "db1:9001"),
        (["::1"], "::1", "[::1]:8001"),
        (["[::1]"], "::1", "[::1]:8001"),
        (["[::1]:9001"], "::1", "[::1]:9001"),
        (["fe80::1:2", "--grpc-port", "1"], "fe80::1:2", "[fe80::1:2]:1"),
    ],
)
def test_a_host_is_a_name_or_an_address_with_a_port_if_wanted(argv: list[str], host: str, address: str) -> None:
    target = options(argv).target

    assert (target.host, target.address) == (host, address)
    assert target.metrics_url.endswith(":8002/metrics")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["db1:9001", "--grpc-port", "9001"], "give one of them"),
        (["db1:port"], "'port' is no port"),
        (["db1:0"], "expected 1 to 65535"),
        (["http://db1"], "is no host"),
        ([""], "is no host"),
        (["--grpc-port", "65536"], "expected 1 to 65535"),
        (["--metrics-port", "²"], "expected 1 to 65535"),
        (["--interval", "0"], "expected 0.1 to 86400"),
        (["--interval", "nan"], "expected 0.1 to 86400"),
        (["--interval", "soon"], "'soon' is no interval"),
        (["--tls-certificate", "client.pem"], "belong together"),
        (["--tls-ca", "/none"], "/none: cannot be read (No such file or directory)"),
        (["--token-file", "/none"], "/none: cannot be read (No such file or directory)"),
        (["--inter", "1"], "unrecognized arguments: --inter"),
        (["--token", "secret"], "unrecognized arguments: --token"),
    ],
)
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], argv: list[str], text: str) -> None:
    assert text in refused(capsys, *argv)


def test_files_that_are_no_certificates_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    signed, other = (trustme.CA().issue_cert("client") for _ in range(2))
    for name, content in (
        ("text", b"x"),
        ("key", signed.private_key_pem.bytes()),
        ("other", other.private_key_pem.bytes()),
        ("pem", signed.cert_chain_pems[0].bytes()),
    ):
        (tmp_path / name).write_bytes(content)
    pem, key, other_key, text = (str(tmp_path / name) for name in ("pem", "key", "other", "text"))

    assert "no certificates of the PEM format" in refused(capsys, "--tls-ca", text)
    for wrong in (("--tls-certificate", pem, "--tls-key", other_key), ("--tls-certificate", text, "--tls-key", key)):
        assert "no certificate with its own, unencrypted key" in refused(capsys, *wrong)
    tls = options(["--tls-certificate", pem, "--tls-key", key]).target.tls
    assert tls is not None, "a certificate of one's own implies TLS"


def test_the_token_comes_from_a_file_or_else_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert options([]).target.token is None
    monkeypatch.setenv(TOKEN, " from-environment ")

    by_variable, by_file = options([]), options(["--token-file", str(tmp_path / "token")])

    assert (by_variable.target.token, by_file.target.token) == ("from-environment", "from-file")
    assert "from-" not in repr((by_variable, by_file))


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", "schlüssel".encode(), b"a\x00b"])
def test_a_file_without_a_token_is_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    error = refused(capsys, "--token-file", str(tmp_path / "file"))

    assert "expected" in error
    assert not any(word in error for word in ("two", "lines", "schl"))


@pytest.mark.parametrize(
    ("host", "flags", "open_to_others"),
    [
        ("db1", [], True),
        ("db1", ["--tls"], False),
        ("127.0.0.1", [], False),
        ("127.db1", [], True),
        ("localhost", [], False),
        ("::1", [], False),
    ],
)
def test_a_token_without_tls_is_told_but_on_the_own_machine(
    monkeypatch: pytest.MonkeyPatch, host: str, flags: list[str], open_to_others: bool
) -> None:
    monkeypatch.setenv(TOKEN, "token")

    assert options([host, *flags]).target.token_in_the_open is open_to_others


@pytest.mark.parametrize(
    ("argv", "once", "interval"),
    [
        ([], False, 1.0),
        (["--interval", "5"], False, 5.0),
        (["--once"], True, None),
        (["--once", "--interval", "5"], True, 5.0),
    ],
)
def test_once_is_of_the_time_since_the_start_unless_an_interval_is_given(
    argv: list[str], once: bool, interval: float | None
) -> None:
    given = options(argv)

    assert isinstance(given, Options)
    assert (given.once, given.interval) == (once, interval)


def test_help_tells_every_option_and_the_exit_codes() -> None:
    text = parser().format_help()

    assert text.startswith("usage: lstm-serve status ")
    for word in ("--interval", "--once", "--token-file", "--tls-ca", TOKEN, "Exit codes: 0; 1", "docs/status.md"):
        assert word in text


WITHOUT_RICH = "import sys; sys.modules['rich'] = None; "


def test_the_parser_needs_nothing_that_takes_long_or_may_be_missing() -> None:
    program = (
        f"{WITHOUT_RICH}from serving.status import parser; parser().format_help(); "
        "print(*{'grpc', 'prometheus_client', 'google', 'pydantic'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert ended.stdout.strip() == ""


def test_without_rich_it_says_what_to_install() -> None:
    program = f"{WITHOUT_RICH}from serving.status import main; sys.exit(main(['--once']))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "lstm-serve status: this takes rich, which is not installed: pip install 'lstm-serving[cli]'\n"
    )
