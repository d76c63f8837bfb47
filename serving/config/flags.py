"""Settings on the command line, and what else can be asked there."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic_settings import CliSettingsSource

from serving import __version__
from serving.completion import FLAG, HELP, SHELLS
from serving.config.names import nearest
from serving.config.settings import ServerConfig

STATUS = "status"
"""The only command: what comes after it is not the server's, but of the program that looks at one."""


class _Parser(argparse.ArgumentParser):
    """One whose messages are a line, as those about settings from elsewhere are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Make the parser of `lstm-serve`'s command line, which names the settings and leaves their values to pydantic."""
    made = _Parser(
        prog="lstm-serve",
        description=ServerConfig.__doc__,
        epilog=f"lstm-serve {STATUS} HOST shows what a running server does; see lstm-serve {STATUS} --help",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"lstm-serve {__version__}")
    made.add_argument("--print-config", action="store_true", help="print all settings and where they are from, and end")
    made.add_argument(FLAG, choices=SHELLS, help=HELP)
    CliSettingsSource(ServerConfig, root_parser=made, cli_parse_args=False, cli_parse_none_str="not set")
    return made


def whole_parser(status: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Make the parser that shells complete by: settings with what they can be, and the command with its own parser."""
    made = parser()
    for action in made._actions:  # noqa: SLF001  argparse has no other way to them
        field = ServerConfig.model_fields.get(action.dest)
        if field is None:
            continue
        if field.annotation in {Path, Path | None}:
            action.type, action.metavar = Path, "DIR" if action.dest == "model_repository" else "FILE"
        elif get_origin(field.annotation) is Literal:
            action.choices = get_args(field.annotation)
    commands = made.add_subparsers()
    commands.add_parser(STATUS, parents=[status], add_help=False, help=status.description)
    return made


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments (default: the process's); end the process with code 2 and what is wrong if they cannot be.

    Returns:
        the settings that were given, as text, by field; `print_config`, a bool; `print_completion`, a shell or None.
    """
    made = parser()
    arguments, unknown = made.parse_known_args(argv)
    if unknown:
        wrong = unknown[0].partition("=")[0]
        known = [STATUS, *made._option_string_actions]  # noqa: SLF001  argparse has no other way to them
        made.error(f"{wrong}: no such argument{nearest(wrong, known)}")
    return arguments


def flag_name(field: str) -> str:
    """Name the flag that sets the field: `grpc_port` is `--grpc-port`."""
    return "--" + field.replace("_", "-")


def flag_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as flags, as text, by field."""
    return {name: value for name, value in vars(arguments).items() if name in ServerConfig.model_fields}
