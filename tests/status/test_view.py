"""What is said of a look, and how it is drawn: nothing is cut, at any width, and nobody else's text steers the terminal."""

import io
import math
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from serving.status.calls import Listed, Server, printable
from serving.status.drawing import Screen, _fitting, _picture, _split
from serving.status.figures import Moment, Sample
from serving.status.looking import Look
from serving.status.view import COLUMNS, Row, View, duration, fixed, gone, number, view

SERVER = Server("lstm-serve", "1.2.3", ready=True)
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=30)


def look(*samples: Sample, index: list[Listed] | None = None, notes: tuple[str, ...] = ()) -> Look:
    return Look(SERVER, index, Moment(samples, at_seconds=10), whole=True, notes=notes)


def requests(model: str, version: str, outcome: str, count: float) -> Sample:
    return Sample("lstm_requests_total", {"model": model, "version": version, "outcome": outcome}, count)


def rows(count: int, *, name: str = "model", cell: str = "1,234") -> list[Row]:
    return [Row(f"{name}{each}/1", "ready", serves=True, cells=[cell] * len(COLUMNS)) for each in range(count)]


def drawn(shown: View, width: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    console.print(_picture(shown, console, plain=False))
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "-"),
        (0, "0"),
        (0.0004, "<0.001"),
        (0.00123, "0.00123"),
        (9.994, "9.99"),
        (99.96, "100"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (math.nan, "an unknown time"),
        (0.24, "0.2 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7325, "2 h 2 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_places_are_fixed_where_columns_are_to_line_up() -> None:
    assert (fixed(0.12345, 3), fixed(1234.5, 2), fixed(math.nan, 3)) == ("0.123", "1,234.50", "-")


def test_versions_are_in_the_order_of_their_numbers_whether_counted_or_listed() -> None:
    listed = [
        Listed("b", "10", "READY", ""),
        Listed("b", "9", "LOADING", ""),
        Listed("a", "1", "UNAVAILABLE", "is not loaded"),
    ]

    shown = view("h:1", look(requests("b", "9", "ok", 1), requests("c", "1", "ok", 2), index=listed), None)

    assert [(row.name, row.state, row.serves) for row in shown.rows] == [
        ("a/1", "down", False),
        ("b/9", "loading", False),
        ("b/10", "ready", True),
        ("c/1", "-", False),
    ]
    assert shown.notes == ["a/1 is not loaded", "b/9 is loading"]


def test_states_that_may_not_be_known_are_not_guessed() -> None:
    shown = view("h:1", look(requests("b", "9", "ok", 1), notes=("ask another",)), None)

    assert [(row.state, row.serves) for row in shown.rows] == [("-", None)]
    assert shown.notes == ["ask another"]


def test_requests_without_an_answer_are_told_by_outcome() -> None:
    before = look(requests("m", "1", "overload", 5)).moment
    now = Moment(
        [requests("m", "1", "overload", 9), requests("m", "1", "invalid", 1), requests("", "", "not_found", 1200)],
        at_seconds=12,
    )

    shown = view("h:1", Look(SERVER, None, now, whole=True, notes=()), before)

    assert shown.failures == ["m/1: 1 invalid, 4 overload", "of no model: 1,200 not_found"]
    assert shown.facts == ["figures of the last 2.0 s", "durations in ms, backlog in s"]


def test_a_quantile_beyond_the_last_bound_is_no_figure() -> None:
    def bucket(bound: str, count: float) -> Sample:
        labels = {"model": "m", "version": "1", "outcome": "ok", "le": bound}
        return Sample("lstm_request_seconds_bucket", labels, count)

    shown = view("h:1", look(bucket("5.0", 90), bucket("10.0", 95), bucket("+Inf", 100)), None)

    cells = dict(zip((column.heading for column in COLUMNS), shown.rows[0].cells, strict=True))
    assert (cells["p50"], cells["p99"]) == ("2,778", ">10,000")


def test_a_server_that_is_gone_is_shown_as_such() -> None:
    shown = gone("h:1", "nothing listens on h:1", 5.0)

    assert (shown.ready, shown.rows) == (False, [])
    assert shown.notes == ["Nothing listens on h:1"]


def test_texts_of_others_steer_no_terminal() -> None:
    assert printable("a\x1b[31mb\nc\x07\x9bd\u202ee é 字") == "a [31mb c  d e é 字"


def test_markup_in_names_is_text() -> None:
    text = drawn(
        View("t [bold]", ready=True, facts=[], rows=rows(1, name="[red]x[/red]"), notes=["n [/] :smile:"]), 200
    )

    for each in ("t [bold]", "[red]x[/red]0/1", "n [/] :smile:"):
        assert each in text


@settings(deadline=None, max_examples=30)
@given(
    name=NAMES,
    cell=st.text("0123456789,.", min_size=1, max_size=9),
    count=st.integers(1, 3),
    width=st.integers(40, 250),
)
def test_no_figure_is_cut_however_narrow_the_terminal_is(name: str, cell: str, count: int, width: int) -> None:
    shown = rows(count, name=name, cell=cell)
    text = drawn(View("t", ready=True, facts=[], rows=shown), width)

    assert sorted(index for table in _split(shown, width) for index in table) == list(range(len(COLUMNS)))
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    words = re.findall(r"\S+", text)
    assert all(words.count(column.heading) == 1 for column in COLUMNS)
    if cell_len(name) < 12:
        assert words.count(cell) == count * len(COLUMNS)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 60), width=st.integers(60, 220), height=st.integers(16, 60))
def test_a_live_picture_is_no_higher_than_the_terminal_and_says_what_is_left_out(
    count: int, width: int, height: int
) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    lines = console.render_lines(_fitting(View("t", ready=True, facts=["f"], rows=rows(count)), console), pad=False)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)

    said = re.search(r"(\d+) more do not fit", text)
    hidden = int(said[1]) if said else 0
    assert sum(line.startswith(f"model{count - hidden - 1}/1") for line in text.splitlines()) >= (count > 0)
    assert f"model{count - hidden}/1" not in text
    if count - hidden > 1:
        assert len(lines) <= height
    if hidden:
        assert len(lines) >= height - 3 * len(_split(rows(count), width)), "little more is left out than must be"


def test_plain_lines_are_whole_and_one_picture_is_apart_from_the_next() -> None:
    file = io.StringIO()
    note = "why " * 400
    with Screen(stays=False, file=file) as screen:
        for _ in range(2):
            screen.show(View("title", ready=True, facts=["facts"], rows=rows(2), notes=[note.strip()]))

    pictures = file.getvalue().split("\n\n")
    assert len(pictures) == 2
    assert [line.split()[0] for line in pictures[0].splitlines()] == [
        "title",
        "facts",
        "model",
        "model0/1",
        "model1/1",
        "Note:",
        "why",
    ]
    assert "\x1b" not in file.getvalue()
    assert os.linesep.join(pictures) == file.getvalue().replace("\n\n", os.linesep)
