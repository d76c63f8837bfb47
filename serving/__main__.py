"""`lstm-serve`: flags and environment to a running server. Exit code 0 after a drain, 1 on failure, 2 on bad usage."""

import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp

from serving import app
from serving.config import ServerConfig
from serving.errors import ArtifactError, ConfigError, EngineUnavailable, FrontUnavailable


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server with the given arguments (default: the process's) until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = CliApp.run(ServerConfig, cli_args=list(sys.argv[1:] if argv is None else argv))
    except ValidationError as error:
        for problem in error.errors():
            flag = "--" + "-".join(str(part) for part in problem["loc"]).replace("_", "-")
            got = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
            sys.stderr.write(f"lstm-serve: {flag}: {problem['msg']}{got}; see lstm-serve --help\n")
        return 2
    try:
        app.run(config)
    except (ArtifactError, ConfigError, EngineUnavailable, FrontUnavailable, OSError) as error:
        sys.stderr.write(f"lstm-serve: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
