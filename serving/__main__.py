"""`lstm-serve`: settings to a running server. Exit code 0 after a drain, 1 on failure, 2 on bad usage."""

import logging
import os
import sys
from collections.abc import Sequence

# gRPC core writes to stderr on its own, past our log, and clients choose when and what: a line for each handshake that
# fails, the words of a GOAWAY, line breaks and all. It asks the environment when grpc is imported, and never again. Who
# looks for a fault of gRPC sets it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from serving import app, logs
from serving.completion import completion
from serving.config import ServerConfig, as_yaml, parse, read_settings
from serving.config.flags import STATUS, whole_parser
from serving.errors import ArtifactError, ConfigError, EngineUnavailable, FrontUnavailable, TracingUnavailable

log = logging.getLogger(logs.OWN)  # __name__ would be another with `python -m`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server with the given arguments (default: the process's) until it is told to stop, or look at one."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [STATUS]:
        from serving import status  # noqa: PLC0415  a server never needs it

        return status.main(given[1:])
    arguments = parse(given)
    if arguments.print_completion:
        return _print_completion(arguments.print_completion)
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        for problem in str(error).splitlines():
            sys.stderr.write(f"lstm-serve: {problem}; see lstm-serve --help\n")
        return 2
    if arguments.print_config:
        sys.stdout.write(as_yaml(settings))
        return 0
    return _serve(settings.config)


def _serve(config: ServerConfig) -> int:
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


def _print_completion(shell: str) -> int:
    from serving import status  # noqa: PLC0415  as above

    try:
        script = completion(whole_parser(status.parser()), shell)
    except ConfigError as error:
        sys.stderr.write(f"lstm-serve: {error}\n")
        return 1
    sys.stdout.write(script)
    return 0


if __name__ == "__main__":
    sys.exit(main())
