"""`lstm-serve status`: arguments to an exit code."""

import os
import sys
from collections.abc import Sequence

from serving.status.arguments import options, parser
from serving.status.errors import CannotLook

__all__ = ["main", "parser"]
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Show what a server does, and return the exit code.

    Args:
        argv: the arguments after `lstm-serve status`; None: those of the process.

    Raises:
        SystemExit: with code 2 for wrong usage, with 0 after help.
    """
    chosen = options(argv)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write into the picture; what is wrong is said here
    try:
        from serving.status.watching import watch  # noqa: PLC0415  shell completion, which wants the parser, needs none

        watch(chosen)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return _fail("this takes rich, which is not installed: pip install 'lstm-serving[cli]'")
    except CannotLook as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED if chosen.once else 0  # it is how the live view is left
    except BrokenPipeError:  # whoever read the lines has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush fails again
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"lstm-serve status: {message}\n")
    return 1
