"""What the server says: one line per event on stderr, as a JSON object for machines or as text for people.

Whatever a client may have chosen (a name, an id, the text of an exception) stays inside its line: JSON escapes it, and
the text form escapes all that is not printable. Modules log as the standard library has it; fields go into `extra`.
"""

import json
import logging
import math
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]

OWN = "serving"
"""The root of this package's loggers."""
REPEATS = 10
"""So many times a minute the same warning is written."""
PERIOD_SECONDS = 60.0
_NO_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; the rest of its attributes came as `extra`."""


def configure(*, log_format: LogFormat, level: LogLevel) -> None:
    """Send all records, those of libraries and Python's warnings too, to stderr.

    Args:
        log_format: auto is text on a terminal, and otherwise JSON.
        level: the least that is written.
    """
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    handler.addFilter(RepeatLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: timestamp, level, logger, message, exception if there is one, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ASCII only, so that no reader can take a part of a text for the end of a line."""
        entry: dict[str, object] = {
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (trace := "".join(_traceback(record))) != "":
            entry["exception"] = trace
        for name, value in record.__dict__.items():
            if name not in _NO_FIELDS and value is not None:
                entry.setdefault(name, _as_json(value))
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    """One line per event; a traceback follows it, indented, so that no line of it can pass for an event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of the traceback."""
        left_out = getattr(record, "left_out", 0)
        more = f" ({left_out} like it were left out)" if left_out else ""
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {_printable(record.getMessage())}{more}"
        trace = "".join(_traceback(record)).split("\n") if record.exc_info else []
        return "\n".join([line, *(f"    {_printable(part)}" for part in trace if part)])


class RepeatLimit(logging.Filter):
    """Writes the same warning a few times a minute, and says with the next one how many were left out.

    Clients can cause warnings at their own rate, and so can a collector of traces that is away. Errors of this server
    always pass: callers have been told that the log has their fault. Whether two records are the same is told by the
    line of code that made them, so that nothing a client chooses can take memory here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        """By line of code: when its minute began, and how many came since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        own = record.name.partition(".")[0] == OWN
        if record.levelno < logging.WARNING or (own and record.levelno > logging.WARNING):
            return True
        place = (record.pathname, record.lineno)
        with self._lock:
            began, count = self._seen.get(place, (-math.inf, 0))
            if 0 <= record.created - began < PERIOD_SECONDS:  # a clock that was set back begins anew
                self._seen[place] = (began, count + 1)
                return count < REPEATS
            self._seen[place] = (record.created, 1)
        if count > REPEATS:
            record.left_out = count - REPEATS
        return True


def _timestamp(record: logging.LogRecord) -> str:
    """Return when it happened as RFC 3339 has it, in UTC with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _traceback(record: logging.LogRecord) -> Iterator[str]:
    if record.exc_info and record.exc_info[0] is not None:
        yield from traceback.format_exception(*record.exc_info)


def _as_json(value: object) -> object:
    """Return a value that JSON has, which knows no infinity; anything else as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float)) else str(value)


def _printable(text: str) -> str:
    """Return the text with everything escaped that a terminal or a reader of lines could act on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
