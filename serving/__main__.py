"""`lstm-serve`: flags and environment to a running server. Exit code 0 after a drain, 1 on failure, 2 on bad usage."""

import logging
import os
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp

# gRPC core writes to stderr on its own, past our log, and with bytes that clients choose: the words of a GOAWAY, line
# breaks and all. It asks the environment when grpc is imported, and never again. Who looks for a fault of gRPC sets it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from serving import app, logs
from serving.config import ServerConfig
from serving.errors import (
    ArtifactError,
    ConfigError,
    EngineUnavailable,
    FrontUnavailable,
    TracingUnavailable,
)

log = logging.getLogger(logs.OWN)  # __name__ would be another with `python -m`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server with the given arguments (default: the process's) until it is told to stop."""
    try:
        config = CliApp.run(ServerConfig, cli_args=list(sys.argv[1:] if argv is None else argv))
    except ValidationError as error:
        for problem in error.errors():
            flag = "--" + "-".join(str(part) for part in problem["loc"]).replace("_", "-")
            got = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
            sys.stderr.write(f"lstm-serve: {flag}: {problem['msg']}{got}; see lstm-serve --help\n")
        return 2
    logs.configure(log_format=config.log_format, level=config.log_level)
    try:
        app.run(config)
    except (ArtifactError, ConfigError, EngineUnavailable, FrontUnavailable, TracingUnavailable, OSError) as error:
        log.critical("cannot start: %s", error, extra={"event": "start_failed"})
        return 1
    except Exception:
        log.critical("the server failed; this is a bug", exc_info=True, extra={"event": "failed"})
        return app.EXIT_FAULT
    return 0


if __name__ == "__main__":
    sys.exit(main())
