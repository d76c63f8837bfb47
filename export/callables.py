"""The user's own functions, named `MODULE:FUNCTION`."""

import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

from export.errors import ExportError

_FORM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def names_function(text: str) -> bool:
    """Return whether the text has the form MODULE:FUNCTION; a file's name may hold a colon, but ends otherwise."""
    return _FORM.fullmatch(text) is not None and not text.endswith(".npz")


def import_function(what: str, name: str) -> Callable[..., Any]:
    """Return the function `name`, as MODULE:FUNCTION; the current directory is searched first.

    Args:
        what: how the user knows it, such as `--metric`, for messages.
        name: of the function.

    Raises:
        ExportError: not of that form, not importable, or not callable.
    """
    if not names_function(name):
        raise ExportError(f"{what} {name!r} is not of the form MODULE:FUNCTION, for example evaluation:accuracy")
    module, _, path = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        target = importlib.import_module(module)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise ExportError(
            f"{what} '{name}' cannot be imported ({error}); expected MODULE:FUNCTION, importable from the current "
            "directory or the installed packages"
        ) from error
    if not callable(target):
        raise ExportError(f"{what} '{name}' is a {type(target).__name__}, not something that can be called")
    return target
