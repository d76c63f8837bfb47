"""Lines of the user's own code, out of stack traces: `net.py:12: return y.mean(1)`, never an absolute path."""

import re
import traceback
from collections.abc import Iterable
from pathlib import Path

import sympy
import torch

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<number>\d+)[^\n]*\n\s*(?P<code>[^\n]*)')
_EXPORTER = Path(__file__).parents[1]
_FOREIGN = (_EXPORTER, *(Path(file).parent for file in (torch.__file__, sympy.__file__)))
_STANDARD = Path(traceback.__file__).parent
INSTALLED = "site-packages"


def is_users(file: str) -> bool:
    """Return whether a file is neither ours nor torch's nor Python's; a model may well be an installed package."""
    path = Path(file)
    standard = path.is_relative_to(_STANDARD) and INSTALLED not in path.parts
    return path.is_absolute() and not standard and not any(path.is_relative_to(folder) for folder in _FOREIGN)


def show_line(file: str, number: int, code: str) -> str:
    """Return `file.py:LINE: code`, the file relative to the current directory if it lies below it, else its name."""
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path.name}:{number}: {code.strip()}"


def line_of_trace(trace: str) -> str | None:
    """Return the innermost line of the user's in the text of a stack trace, None if it has none."""
    frames = [match for match in _FRAME.finditer(trace) if is_users(match["file"])]
    return show_line(frames[-1]["file"], int(frames[-1]["number"]), frames[-1]["code"]) if frames else None


def line_of_frames(frames: Iterable[traceback.FrameSummary]) -> str | None:
    """Return the innermost line of the user's among frames, outermost first; None if there is none."""
    users = [frame for frame in frames if is_users(frame.filename)]
    return show_line(users[-1].filename, users[-1].lineno or 0, users[-1].line or "") if users else None
