"""`python -m loadtests.load`: load for a server, from locust, in one command.

Without --host it serves a repository itself, on all cores but one, and sends from the last. All other arguments are
locust's and those of `loadtests/locustfile.py`, which `locust -f loadtests/locustfile.py --help` lists; the plain
`locust -f loadtests/locustfile.py --headless --host HOST:PORT` does the same to a server that runs. Exit codes: 0 the
objectives are kept, 1 they are not or the run could not be made, 2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from loadtests.capacity.measuring import on_cores
from training.local_server import LocalServer

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
QUIET = ("--headless", "--skip-log-setup", "--only-summary")
"""The report has all that locust would print, and more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--host", help="a server that runs, HOST:PORT of its gRPC port")
    parser.add_argument(
        "--model-repository",
        type=Path,
        default=Path("demo-output/models"),
        metavar="DIR",
        help="what to serve without it",
    )
    given, others = parser.parse_known_args(arguments)
    if given.host is not None:
        return _locust(["--host", given.host, *others])
    if not given.model_repository.is_dir():
        return _fail(parser.prog, f"{given.model_repository}: no such folder; `make demo` makes it, or give --host")
    *servers, last = sorted(os.sched_getaffinity(0))
    try:
        with on_cores(set(servers)) if servers else nullcontext():
            server = LocalServer(given.model_repository)
    except RuntimeError as error:
        return _fail(parser.prog, str(error))
    with server, on_cores({last}):
        return _locust(["--host", server.address, "--metrics-url", server.metrics_url, *others])


def _locust(arguments: Sequence[str]) -> int:
    """Run locust in a process of its own, because gevent patches all of one."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *QUIET, *arguments]
    process = subprocess.Popen(command)  # noqa: S603  locust, by this Python
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # locust has got it too, and ends with its report


def _fail(program: str, message: str) -> int:
    Console(stderr=True).print(f"{program}: {message}", markup=False, highlight=False, soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
