"""The command line of `lstm-serve status`. Shell completion reads it, so nothing here takes long to import."""

import argparse
import math
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.status.target import Target, Tls

TOKEN_VARIABLE = "LSTM_SERVE_TOKEN"  # noqa: S105  the name of one
LIVE_SECONDS = 1.0
EPILOG = f"""\
A token is never an argument, since others on the machine can read those: put it into {TOKEN_VARIABLE}, or into a file
for --token-file. Exit codes: 0; 1 the server cannot be reached or does not let this caller look; 2 wrong usage; 130
--once was interrupted. docs/status.md says what each column means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is to be shown.

    Attributes:
        target: whose figures.
        once: whether to end after the first.
        interval: seconds between looks; None: the figures of the time since the server started.
    """

    target: Target
    once: bool
    interval: float | None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="lstm-serve status",
        description="Show what a server does: models, rates, latency, backlog, occupancy. Ctrl-C ends it.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    made.add_argument(
        "host", nargs="?", default="127.0.0.1", metavar="HOST", help="of the server, or HOST:PORT of its gRPC port"
    )
    made.add_argument("--grpc-port", type=_port, metavar="PORT", help="its gRPC port (8001)")
    made.add_argument("--metrics-port", type=_port, default=8002, metavar="PORT", help="its port of /metrics (8002)")
    made.add_argument(
        "--interval",
        type=_seconds,
        metavar="SECONDS",
        help=f"how often to look ({LIVE_SECONDS:g}); rates and latencies are of the time since the look before, and in "
        "the first picture of the time since the server started",
    )
    made.add_argument(
        "--once",
        action="store_true",
        help="print one picture and end: of the time since the server started, or, if --interval is given, of that "
        "many seconds from now",
    )
    made.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"file that holds the token; otherwise {TOKEN_VARIABLE} is used"
    )
    made.add_argument("--tls", action="store_true", help="the gRPC port is encrypted; the options below imply it")
    made.add_argument("--tls-ca", type=Path, metavar="FILE", help="authority of the server's certificate (PEM)")
    made.add_argument("--tls-certificate", type=Path, metavar="FILE", help="our own certificate, for mTLS (PEM)")
    made.add_argument("--tls-key", type=Path, metavar="FILE", help="key of our own certificate (PEM, not encrypted)")
    made.add_argument("--tls-name", metavar="NAME", help="name in the server's certificate, if it is not HOST")
    return made


def options(argv: Sequence[str] | None) -> Options:
    """Read the command line, and the token from where it says.

    Raises:
        SystemExit: with code 2 and a message on stderr for wrong usage, with 0 after help.
    """
    command = parser()
    given = command.parse_args(argv)
    try:
        host, port = _address(given.host, given.grpc_port)
        target = Target(
            host=host, grpc_port=port, metrics_port=given.metrics_port, tls=_tls(given), token=_token(given.token_file)
        )
    except ValueError as error:
        command.error(str(error))
    return Options(
        target=target, once=given.once, interval=given.interval if given.once else given.interval or LIVE_SECONDS
    )


def _address(text: str, grpc_port: int | None) -> tuple[str, int]:
    """Return host and port of HOST, HOST:PORT, [IPv6]:PORT or a bare IPv6 address."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in text or any(letter.isspace() for letter in text):
        raise ValueError(f"HOST '{text}' is no host; expected a name or an address, with :PORT if wanted, as db1:8001")
    if port and grpc_port is not None:
        raise ValueError(f"HOST '{text}' names a port, and so does --grpc-port {grpc_port}; give one of them")
    try:
        return host, _port(port) if port else grpc_port or 8001
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"HOST '{text}': {error}") from None


def _tls(given: argparse.Namespace) -> Tls | None:
    """Return how the port is encrypted; the files are tried here, where a message can name them."""
    if (given.tls_certificate is None) != (given.tls_key is None):
        raise ValueError("--tls-certificate and --tls-key belong together; give both, or neither")
    if not (given.tls or given.tls_ca or given.tls_certificate or given.tls_name):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if given.tls_ca is not None:
        try:
            context.load_verify_locations(given.tls_ca)
        except OSError as error:
            raise ValueError(f"--tls-ca {given.tls_ca}: {_unusable(error, 'certificates')}") from error
    if given.tls_certificate is not None:
        try:
            context.load_cert_chain(given.tls_certificate, given.tls_key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--tls-certificate {given.tls_certificate} --tls-key {given.tls_key}: "
                f"{_unusable(error, 'certificate with its own, unencrypted key')}"
            ) from error
    return Tls(authority=given.tls_ca, certificate=given.tls_certificate, key=given.tls_key, name=given.tls_name)


def _unusable(error: OSError | ValueError, expected: str) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"cannot be read ({error.strerror})"
    return f"no {expected} of the PEM format"


def _token(path: Path | None) -> str | None:
    """Return the token; no message repeats it."""
    source = TOKEN_VARIABLE if path is None else f"--token-file {path}"
    try:
        token = (os.environ.get(TOKEN_VARIABLE, "") if path is None else path.read_text(encoding="ascii")).strip()
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise ValueError(f"{source}: holds no token; expected one word of ASCII letters and digits") from None
    if not token:
        if path is not None:
            raise ValueError(f"{source}: is empty; expected a token")
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(f"{source}: holds no token; expected one word of ASCII letters and digits")
    return token


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' is no port; expected 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"'{text}' is no interval; expected 0.1 to 86400 seconds")
    return seconds
