"""Pictures on a terminal, and as plain lines where there is none. The only importer of rich."""

from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serving.status.view import COLUMNS, Row, View

PLAIN_WIDTH = 100_000
"""Of what is no terminal: nothing is cut or broken there, so that other programs can read the lines."""
GAP = 2
"""Between two columns; on a terminal half of it is rich's."""
STATE_STYLES = {True: "green", False: "red", None: ""}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller, as releases of rich before 13.9 do; this one would exit with code 1."""
        self.quiet = True
        raise BrokenPipeError


class Screen:
    """Shows one picture after the other: in place on a terminal, one below the other elsewhere. Context manager."""

    def __init__(self, *, stays: bool, file: IO[str] | None = None) -> None:
        """Look at what there is to draw on.

        Args:
            stays: whether every picture is to stay, on a terminal too.
            file: to write to; None for the standard output.
        """
        self._console = _Console(file=file, highlight=False, markup=False, emoji=False)
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
        first, self._last = self._last is None, view  # before it is drawn: Ctrl-C may come in the middle of that
        if self._live is not None:
            self._live.update(_fitting(view, self._console), refresh=True)
            return
        if not first:
            self._console.print()
        self._console.print(_picture(view, self._console, plain=not self._on_terminal))


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
    """Return a view with as many rows as the terminal is high enough for, but one."""
    hidden = 0
    while True:
        picture = _picture(view, console, plain=False, hidden=hidden)
        excess = len(console.render_lines(picture, pad=False)) - console.height
        most = max(0, len(view.rows) - 1)
        if excess <= 0 or hidden == most:
            return picture
        hidden = min(most, hidden + -(-excess // len(_split(view.rows, console.width))))


def _tables(rows: Sequence[Row], console: Console, *, plain: bool) -> list[RenderableType]:
    """Return one table with every figure, or as many as the terminal's width takes to show them whole."""
    tables: list[RenderableType] = []
    for indices in _split(rows, console.width):
        tables += [_table(rows, indices, plain=plain, with_state=not tables)]
    return tables if plain else [part for table in tables for part in (Text(), table)]


def _split(rows: Sequence[Row], width: int) -> list[list[int]]:
    """Return which of the columns go into which table: all into one, or else those of one part, as far as they fit."""
    widths = [
        max(map(cell_len, (column.heading, *(row.cells[index] for row in rows)))) + GAP
        for index, column in enumerate(COLUMNS)
    ]
    name = max(cell_len(row.name) for row in rows) + GAP
    room = width - name - max(cell_len(row.state) for row in rows)
    if sum(widths) <= room:
        return [list(range(len(COLUMNS)))]
    tables: list[list[int]] = []
    for index, column in enumerate(COLUMNS):
        if not tables or widths[index] > room or column.part != COLUMNS[tables[-1][-1]].part:
            room = room if not tables else width - name + GAP
            tables.append([])
        tables[-1].append(index)
        room -= widths[index]
    return tables


def _table(rows: Sequence[Row], indices: Sequence[int], *, plain: bool, with_state: bool) -> Table:
    table = Table(
        box=None if plain else SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP if plain else 1, 0, 0)
    )
    table.add_column("model", overflow="fold")
    if with_state:
        table.add_column("state", no_wrap=True)
    for index in indices:
        table.add_column(COLUMNS[index].heading, justify="right", no_wrap=True)
    for row in rows:
        state = [Text(row.state, style=STATE_STYLES[row.serves])] if with_state else []
        table.add_row(Text(row.name), *state, *(row.cells[index] for index in indices))
    return table


def _listed(heading: str, lines: Sequence[str], style: str) -> list[RenderableType]:
    if not lines:
        return []
    return [
        Text(heading, style="bold"),
        *(Padding(Text(line, style=style), (0, 0, 0, 2), expand=False) for line in lines),
    ]
