"""The native engine's benchmark for a person: tables on the terminal and in Markdown, and a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from loadtests.benchmarks.int8_checks import Check
from loadtests.benchmarks.int8_show import STYLES
from loadtests.benchmarks.native_measuring import BATCHES, Measured, Point
from training.turns import Spread

NONE = "-"
OVERS = {"fp32": "onnxruntime FP32", "int8": "onnxruntime INT8"}
ROUNDED = ("int8", "native")
COLOURS = ("#c6dbef", "#6baed6", "#2171b5", "#fd8d3c")
"""Of the batches, the last one of mixed lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table, for the terminal and for Markdown."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def table(self) -> Table:
        """Return it for the terminal, verdicts in colour."""
        table = Table(*(Column(name, overflow="fold") for name in self.header), title=self.title)
        for row in self.rows:
            styles = [STYLES.get(cell.removesuffix("?"), "") for cell in row]
            table.add_row(*(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
        return table

    def markdown(self) -> str:
        """Return it as Markdown under a heading."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sheets(models: Sequence[Measured], checks: Sequence[Check]) -> list[Sheet]:
    """Return all tables; figures are medians of the turns, in brackets their quartiles."""
    return [
        Sheet(
            title="Native INT8, times faster than onnxruntime",
            header=("model", "batch", "FP32, ms", "INT8, ms", "native, ms", "over FP32", "over INT8", "GMAC/s"),
            rows=[_time_row(model, point) for model in models for point in model.points],
        ),
        Sheet(
            title="The whole native engine and its bare tile",
            header=("model", "batch", "tile, GMAC/s", "of the tile's peak"),
            rows=[
                (model.stack.name, point.batch.name, _spread(point.tile_rate, 1e-9), _spread(point.tile_share))
                for model in models
                for point in model.points
                if point.tile_rate is not None
            ],
        ),
        Sheet(
            title="Relative RMS error against FP32, rows alone",
            header=("model", OVERS["int8"], "native"),
            rows=[
                (model.stack.name, *(f"{model.rms[form]:.4f}" if form in model.rms else NONE for form in ROUNDED))
                for model in models
            ],
        ),
        Sheet(
            title="Native answers to the bit",
            header=("model", "compared", "values", "differences"),
            rows=[
                (model.stack.name, same.what, f"{same.values:,}", str(same.differences))
                for model in models
                for same in model.sameness
            ],
        ),
        Sheet(
            title="Targets",
            header=("model", "measure", "at least", "measured", "verdict", "why"),
            rows=[_check_row(check) for check in checks],
        ),
    ]


def summary(checks: Sequence[Check]) -> str:
    """Say how many targets were met."""
    met = sum(check.verdict == "met" for check in checks)
    return f"{met} of {len(checks)} targets met; ?: the target lies between the quartiles."


def write_markdown(tables: Sequence[Sheet], machine: str, result: str, path: Path) -> None:
    """Write the tables as Markdown."""
    head = (
        f"# The native INT8 engine\n\n{machine}\n\n"
        f"One thread; medians of the turns, in brackets their quartiles. {result}\n"
    )
    path.write_text("\n".join([head, *(sheet.markdown() for sheet in tables if sheet.rows)]), encoding="utf-8")


def show(tables: Sequence[Sheet], console: Console) -> None:
    """Print the tables."""
    for sheet in tables:
        if sheet.rows:
            console.print(sheet.table())


def plot(models: Sequence[Measured], path: Path) -> None:
    """Draw a panel per form of onnxruntime, a group of bars per model, a bar per batch, into a PNG."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (over, name) in zip(figure.subplots(1, 2), OVERS.items(), strict=True):
        _draw(axes, [model for model in models if model.points[0].speedup(over) is not None], over)
        axes.set_title(f"native INT8 over {name}, one thread", fontsize=10)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(BATCHES), fontsize=8
    )
    figure.savefig(path, dpi=130)


def _draw(axes: Axes, models: Sequence[Measured], over: str) -> None:
    places, width = np.arange(len(models)), 0.8 / len(BATCHES)
    for number, (batch, colour) in enumerate(zip(BATCHES, COLOURS, strict=True)):
        spreads = [spread for model in models if (spread := model.points[number].speedup(over)) is not None]
        at = places + (number - (len(BATCHES) - 1) / 2) * width
        ends = [[each.median - each.p25 for each in spreads], [each.p75 - each.median for each in spreads]]
        heights = [each.median for each in spreads]
        bars = axes.bar(at, heights, width, yerr=ends, color=colour, label=f"batch {batch.name}")
        axes.bar_label(bars, fmt="{:.1f}", fontsize=7, padding=3)
    axes.axhline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_xticks(places, [model.stack.name.replace(" ", "\n") for model in models], fontsize=8)
    axes.set_ylabel("times faster")
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _time_row(model: Measured, point: Point) -> tuple[str, ...]:
    times = [
        f"{point.milliseconds(form):.2f}" if form in point.seconds else NONE for form in ("fp32", "int8", "native")
    ]
    speedups = [_spread(point.speedup(over)) for over in OVERS]
    return model.stack.name, point.batch.name, *times, *speedups, f"{point.rate.median * 1e-9:.0f}"


def _check_row(check: Check) -> tuple[str, ...]:
    measured = f"{check.measured:.2f}" if check.spread is None else _spread(check.spread)
    verdict = f"{check.verdict}{'?' if check.straddled else ''}"
    return check.model, check.measure, f"{check.target:g}", measured, verdict, check.why


def _spread(spread: Spread | None, factor: float = 1.0) -> str:
    if spread is None:
        return NONE
    median, p25, p75 = (each * factor for each in (spread.median, spread.p25, spread.p75))
    return f"{median:.2f} ({p25:.2f}-{p75:.2f})"
