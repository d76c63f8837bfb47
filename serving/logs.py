"""What the server says: one line per event on stderr, as a JSON object for machines or as text for people.

Whatever a client may have chosen (a name, an id, the text of an exception) stays inside its line: JSON escapes it, and
the text form escapes all that is not printable. Modules log as the standard library has it; fields go into `extra`.
Whoever logs never waits for the reader of stderr (`serving/stderr.py`).
"""

import json
import logging
import math
import os
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from serving.stderr import LineWriter, open_stderr

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]

OWN = "serving"
"""The root of this package's loggers."""
REPEATS = 10
"""So many times a minute the same warning is written."""
PERIOD_SECONDS = 60.0
FLUSH_SECONDS = 2.0
"""So long the end of the process waits for the reader of its last lines."""
_NO_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; the rest of its attributes came as `extra`."""


def configure(*, log_format: LogFormat, level: LogLevel) -> None:
    """Send all records, those of libraries and Python's warnings too, to stderr.

    Args:
        log_format: auto is text on a terminal, and otherwise JSON.
        level: the least that is written.
    """
    descriptor = open_stderr()
    text = log_format == "text" or (log_format == "auto" and os.isatty(descriptor))
    handler = StderrHandler(descriptor, TextFormatter() if text else JsonFormatter())
    handler.addFilter(RepeatLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def lost_lines() -> int:
    """Return how many lines could not be written so far, or not in time."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, StderrHandler))


class StderrHandler(logging.Handler):
    """Hands lines to a thread that writes them; `logging.shutdown`, which Python calls at its end, waits for it."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        """Begin to write what comes.

        Args:
            descriptor: of stderr.
            formatter: makes a record a line.
        """
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LineWriter(descriptor, notice=self._notice)

    @property
    def lost(self) -> int:
        """Lines that could not be written, or not in time."""
        return self._writer.lost

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record's line over; never waits."""
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001  whoever logs has other things to do, as the standard library has it
            self.handleError(record)
        else:
            self._writer.put(line)

    def flush(self) -> None:
        """Wait until all is written, for a moment at most."""
        self._writer.flush(seconds=FLUSH_SECONDS)

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _notice(self, count: int) -> bytes:
        text = "%d lines of this log were lost: stderr could not be written, or its reader did not keep up"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (count,), None)
        record.event, record.lines = "log_lost", count
        return self._line(record)


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
