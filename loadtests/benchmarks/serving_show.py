"""The server's benchmark for a person: tables and a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.benchmarks.serving_figures import GAIN, Figure
from loadtests.benchmarks.serving_overload import Overload

STYLES = {"met": "green", "missed": "bold red", "no target": "none"}
COLOURS = ("#1f77b4", "#9aa0a6")
"""Of the fronts, in their order."""
MISSED = "#d62728"
BAR = 0.8
"""Height of the bars of a line, of which each has the height 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure of one workload: its figures by front."""

    workload: str
    measure: str
    figures: dict[str, Figure]

    @property
    def held(self) -> list[Figure]:
        """Those that have a target."""
        return [figure for figure in self.figures.values() if figure.target is not None]

    @property
    def aim(self) -> str:
        """The target in words, or nothing."""
        return next((f"{'≥' if each.at_least else '≤'} {each.target:g}" for each in self.held), "")

    @property
    def verdict(self) -> str:
        """Whether the target was met, and by whom if several are held to it."""
        names = len(self.held) > 1
        return ", ".join(
            f"[{STYLES[each.verdict]}]{f'{each.front} ' if names else ''}{each.verdict}[/]" for each in self.held
        )


def lines_of(figures: Sequence[Figure]) -> list[Line]:
    """Return the figures side by side, in the order of the first of each."""
    lines: dict[tuple[str, str], Line] = {}
    for figure in figures:
        key = figure.workload, figure.measure
        line = lines.setdefault(key, Line(workload=figure.workload, measure=figure.measure, figures={}))
        line.figures[figure.front] = figure
    return list(lines.values())


def show(figures: Sequence[Figure], overloads: Sequence[Overload], console: Console, *, fronts: Sequence[str]) -> None:
    """Print a section per workload, a line per measure with a column per front, then the overload."""
    columns = [*fronts, *([GAIN] if len(fronts) > 1 else []), ""]
    table = Table(
        "measure",
        "target",
        *(column or "without a front" for column in columns),
        "verdict",
        title="The server on one core: medians (lowest to highest of the turns)",
        caption=f"targets are those of the front {fronts[0]}, unless the verdict names several; INT8 by onnxruntime",
    )
    workload = None
    for line in lines_of(figures):
        if line.workload != workload:
            table.add_section()
            table.add_row(f"[bold]{line.workload}[/]")
            workload = line.workload
        cells = (_cell(line.figures.get(column)) for column in columns)
        table.add_row(line.measure, line.aim, *cells, line.verdict)
    console.print(table)
    if overloads:
        table = Table(
            "model",
            "offered / peak",
            "goodput / peak",
            "refused/s",
            "p99 of answered, ms",
            "deadline, ms",
            title=f"Overload, front {fronts[0]}",
        )
        for point in overloads:
            table.add_row(
                point.model,
                f"{point.offered_over_peak:g}",
                f"{point.goodput_over_peak:.2f}",
                f"{point.refused:.0f}",
                f"{point.p99_ms:.0f}",
                f"{point.deadline_ms:.0f}",
            )
        console.print(table)
    asked = [figure for figure in figures if figure.target is not None]
    missed = [figure for figure in asked if figure.verdict == "missed"]
    console.print(f"{len(asked) - len(missed)} of {len(asked)} targets met.", highlight=False)


def plot(figures: Sequence[Figure], overloads: Sequence[Overload], path: Path, *, fronts: Sequence[str]) -> None:
    """Draw the figures that have a target, each front's against it, and goodput under overload, into a PNG."""
    canvas = Canvas(figsize=(12, 6), layout="constrained")
    left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
    _plot_fronts([line for line in lines_of(figures) if line.held], left, fronts)
    for model in dict.fromkeys(point.model for point in overloads):
        points = [point for point in overloads if point.model == model]
        factors = [point.offered_over_peak for point in points]
        right.plot(factors, [point.goodput_over_peak for point in points], "o-", label=f"goodput / peak, {model}")
    right.axhline(0.9, color="black", linestyle=":", linewidth=1)
    right.set_ylim(bottom=0)
    right.set_xlabel("offered load / peak")
    right.set_title(f"overload, front {fronts[0]}", fontsize=10)
    if overloads:
        right.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130)


def _plot_fronts(lines: Sequence[Line], axes: Axes, fronts: Sequence[str]) -> None:
    """Draw a bar for each front of each line, as long as what was measured is over the target."""
    # What may not happen at all is no length.
    lines = [line for line in lines if line.held[0].target]
    over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    height = BAR / len(fronts)
    for place, (front, colour) in enumerate(zip(fronts, COLOURS, strict=False)):
        mine = [(at, line, line.figures[front]) for at, line in enumerate(lines) if front in line.figures]
        bars = axes.barh(
            [at + (place + 0.5) * height - BAR / 2 for at, _, _ in mine],
            [figure.value / (line.held[0].target or 1.0) for _, line, figure in mine],
            height,
            color=colour,
            label=front,
        )
        labels = axes.bar_label(
            bars, [_number(figure.value) for _, _, figure in mine], fontsize=7, padding=4, bbox=over_the_line
        )
        for label, (_, _, figure) in zip(labels, mine, strict=True):
            if figure.verdict == "missed":
                label.set_color(MISSED)
    axes.set_yticks(range(len(lines)), [f"{line.workload}: {line.measure} ({line.aim})" for line in lines])
    axes.margins(x=0.1)
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_title("measured over target (red: missed)", fontsize=10)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)
    if lines:
        axes.legend(fontsize=8)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.lowest == figure.highest:
        return _number(figure.value)
    return f"{_number(figure.value)} ({_number(figure.lowest)} to {_number(figure.highest)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
