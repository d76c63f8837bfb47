"""Scripts by which shells complete the arguments of a program of ours."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from serving.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
FLAG = "--print-completion"
HELP = "print a script that lets this shell complete arguments, and end"


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell.

    Args:
        parser: of the program and its commands. Arguments of type `Path` are completed by files, or by folders if their
            metavar has DIR in it or a slash.
        shell: one of `SHELLS`.

    Raises:
        ConfigError: shtab, which writes the scripts, is not installed.
    """
    try:
        import shtab  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ConfigError(f"{FLAG} needs shtab, which is not installed: pip install 'lstm-serving[cli]'") from error
    for action in _actions(parser):
        if action.type is Path:
            folder = isinstance(action.metavar, str) and ("DIR" in action.metavar or "/" in action.metavar)
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  as shtab reads them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
