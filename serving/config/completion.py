"""Scripts by which shells complete the arguments of `lstm-serve` and of `lstm-serve status`."""

import argparse
from pathlib import Path
from typing import Literal, get_args, get_origin

from serving.config.flags import STATUS, parser
from serving.config.settings import ServerConfig
from serving.errors import ConfigError


def completion(shell: str, status: argparse.ArgumentParser) -> str:
    """Return the script for a shell.

    Args:
        shell: one of `serving.config.flags.SHELLS`.
        status: the parser of `lstm-serve status`.

    Raises:
        ConfigError: shtab, which writes the scripts, is not installed.
    """
    try:
        import shtab  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ConfigError(
            "--print-completion needs shtab, which is not installed; pip install 'lstm-serving[cli]'"
        ) from error
    whole = parser()
    for action in whole._actions:  # noqa: SLF001  as shtab reads them
        field = ServerConfig.model_fields.get(action.dest)
        if field is None:
            continue
        if field.annotation in {Path, Path | None}:
            files = shtab.DIRECTORY if action.dest == "model_repository" else shtab.FILE
            action.complete = files  # type: ignore[attr-defined]
        elif get_origin(field.annotation) is Literal:
            action.choices = get_args(field.annotation)
    commands = whole.add_subparsers(dest="command")
    commands.add_parser(STATUS, parents=[status], add_help=False, help=status.description)
    return shtab.complete(whole, shell)
