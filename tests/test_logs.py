"""The form of log lines: whatever is said stays in its line, and the same warning is not said without end."""

import json
import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.logs import PERIOD_SECONDS, REPEATS, JsonFormatter, RepeatLimit, TextFormatter

TEXT = st.text() | st.text(alphabet='\n\r\v\f\x1b\x85\u2028\u2029\x00"\\{}%s a')
FIELDS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: not hasattr(logging.makeLogRecord({}), name)),
    TEXT | st.integers() | st.floats() | st.booleans() | st.none(),
    max_size=4,
)
FIXED = {"timestamp", "level", "logger", "message", "exception"}


def record(message: str, fields: dict[str, Any], error: Exception | None = None) -> logging.LogRecord:
    made = logging.getLogger("serving.test").makeRecord(
        "serving.test", logging.ERROR, __file__, 1, "said %s", (message,), None, extra=fields
    )
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    return made


@given(message=TEXT, fields=FIELDS, cause=st.none() | TEXT)
def test_any_text_makes_one_json_line_that_reads_back(message: str, fields: dict[str, Any], cause: str | None) -> None:
    error = None if cause is None else ValueError(cause)

    line = JsonFormatter().format(record(message, fields, error))

    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line, parse_constant=pytest.fail)
    assert entry["message"] == f"said {message}"
    assert (entry["level"], entry["logger"]) == ("ERROR", "serving.test")
    if cause is not None:
        assert "ValueError" in entry["exception"]
    for name, value in fields.items():
        if name not in FIXED and value is not None:
            endless = isinstance(value, float) and not math.isfinite(value)
            assert entry[name] == (str(value) if endless else value)


@given(message=TEXT, cause=st.none() | TEXT)
def test_any_text_makes_one_line_of_text_and_an_indented_traceback(message: str, cause: str | None) -> None:
    error = None if cause is None else ValueError(cause)

    first, *rest = TextFormatter().format(record(message, {}, error)).split("\n")

    assert first.isprintable()
    assert " ERROR serving.test: said " in first
    assert bool(rest) == (error is not None)
    assert all(line.isprintable() and line.startswith("    ") for line in rest)


def test_times_are_utc_with_milliseconds() -> None:
    made = record("", {})
    made.created = 1_000_000_000.0625

    assert json.loads(JsonFormatter().format(made))["timestamp"] == "2001-09-09T01:46:40.062Z"
    assert TextFormatter().format(made).startswith("2001-09-09T01:46:40.062Z ERROR ")


def said(limit: RepeatLimit, at: float, *, name: str = "serving.test", level: int = logging.WARNING) -> bool:
    """Return whether a warning from one line of code passes."""
    made = record("", {})
    made.name, made.levelno, made.created = name, level, at
    return limit.filter(made)


@given(st.lists(st.floats(0, 10 * PERIOD_SECONDS), max_size=100).map(sorted))
def test_of_the_same_warning_few_are_written_a_minute_and_none_is_forgotten(times: list[float]) -> None:
    limit = RepeatLimit()
    written: list[float] = []
    told = 0
    for at in times:
        made = record("", {})
        made.levelno, made.created = logging.WARNING, at
        if limit.filter(made):
            written.append(at)
            told += getattr(made, "left_out", 0)

    for began in written:
        assert sum(began <= at < began + PERIOD_SECONDS for at in written) <= 2 * REPEATS
    assert told <= len(times) - len(written)
    assert len(written) >= min(len(times), REPEATS)


def test_the_next_minute_tells_how_many_were_left_out() -> None:
    limit = RepeatLimit()
    passed = [said(limit, at=1.0) for _ in range(REPEATS + 7)]
    late = record("", {})
    late.levelno, late.created = logging.WARNING, 1.0 + PERIOD_SECONDS

    assert passed == [True] * REPEATS + [False] * 7
    assert limit.filter(late)
    assert json.loads(JsonFormatter().format(late))["left_out"] == 7
    assert TextFormatter().format(late).endswith(" (7 like it were left out)")


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    limit = RepeatLimit()
    for _ in range(REPEATS + 1):
        said(limit, at=3600.0)

    assert said(limit, at=0.0)


@pytest.mark.parametrize(
    ("name", "level", "limited"),
    [
        ("serving.execution", logging.INFO, False),
        ("serving.execution", logging.WARNING, True),
        ("serving.execution", logging.ERROR, False),  # a caller was told that it is there
        ("opentelemetry.sdk", logging.ERROR, True),
        ("servings", logging.ERROR, True),
    ],
)
def test_faults_always_pass_and_libraries_do_not(name: str, level: int, limited: bool) -> None:
    limit = RepeatLimit()

    passed = [said(limit, at=1.0, name=name, level=level) for _ in range(REPEATS + 1)]

    assert passed[-1] is not limited
