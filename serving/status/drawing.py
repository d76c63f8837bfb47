"""Pictures on a terminal, and as plain lines where there is none. The only importer of rich."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import IO, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serving.status.view import COLUMNS, Part, Row, View

PLAIN_WIDTH = 100_000
"""Of what is no terminal: nothing is cut or broken there, so that other programs can read the lines."""
STATE_STYLES = {True: "green", False: "red", None: ""}


class Screen:
    """Shows one picture after the other: in place on a terminal, one below the other elsewhere. Context manager."""

    def __init__(self, *, stays: bool, file: IO[str] | None = None) -> None:
        """Look at what there is to draw on.

        Args:
            stays: whether every picture is to stay, on a terminal too.
            file: to write to; None for the standard output.
        """
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        self._on_terminal = self._console.is_terminal
        if not self._on_terminal:
            self._console.width = PLAIN_WIDTH
        self._last: View | None = None
        self._live: Live | None = None
        if self._on_terminal and not self._console.is_dumb_terminal and not stays:
            self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back, with the last picture on it."""
        if self._live is not None:
            self._live.stop()
            if self._last is not None:
                self._console.print(_picture(self._last, self._console, plain=False))

    def show(self, view: View) -> None:
        """Draw a picture."""
        if self._live is not None:
            self._live.update(_fitting(view, self._console), refresh=True)
        else:
            if self._last is not None:
                self._console.print()
            self._console.print(_picture(view, self._console, plain=not self._on_terminal))
        self._last = view


def _picture(view: View, console: Console, *, plain: bool, hidden: int = 0) -> Group:
    """Return all of a view, but for the last `hidden` of its rows."""
    rows = view.rows[: len(view.rows) - hidden]
    parts: list[RenderableType] = [Text(view.title, style="bold green" if view.ready else "bold red")]
    if view.facts:
        parts.append(Text(", ".join(view.facts)))
    if rows:
        parts += _tables(rows, console, plain=plain)
    if hidden:
        parts.append(Text(f"{hidden} more do not fit on this terminal; --once prints all.", style="yellow"))
    parts += _listed("Without an answer:", view.failures, "")
    parts += _listed("Note:", view.notes, "yellow")
    return Group(*parts)


def _fitting(view: View, console: Console) -> Group:
    """Return as much of a view as the terminal is high."""
    hidden = 0
    while True:
        picture = _picture(view, console, plain=False, hidden=hidden)
        excess = len(console.render_lines(picture, pad=False)) - console.height
        if excess <= 0 or hidden == len(view.rows):
            return picture
        tables = 1 if len(_tables(view.rows, console, plain=False)) == 1 else 2
        hidden = min(len(view.rows), hidden + -(-excess // tables))


def _tables(rows: Sequence[Row], console: Console, *, plain: bool) -> list[RenderableType]:
    """Return one table with every figure, or two if that is too wide for the terminal."""
    whole = _table(rows, ("requests", "work"), plain=plain)
    unbounded = console.options.update(max_width=PLAIN_WIDTH)
    if Measurement.get(console, unbounded, whole).maximum <= console.width:
        return [whole]
    return [_table(rows, (part,), plain=plain) for part in ("requests", "work")]


def _table(rows: Sequence[Row], parts: Iterable[Part], *, plain: bool) -> Table:
    shown = set(parts)
    table = Table(box=None if plain else SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("state", no_wrap=True)
    for column in COLUMNS:
        if column.part in shown:
            table.add_column(column.heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [cell for column, cell in zip(COLUMNS, row.cells, strict=True) if column.part in shown]
        table.add_row(Text(row.name), Text(row.state, style=STATE_STYLES[row.serves]), *cells)
    return table


def _listed(heading: str, lines: Sequence[str], style: str) -> list[RenderableType]:
    if not lines:
        return []
    return [
        Text(heading, style="bold"),
        *(Padding(Text(line, style=style), (0, 0, 0, 2), expand=False) for line in lines),
    ]
