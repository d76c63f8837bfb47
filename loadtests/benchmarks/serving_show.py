"""The server's benchmark for a person: tables and a plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.benchmarks.serving_figures import Figure
from loadtests.benchmarks.serving_overload import Overload

STYLES = {"met": "green", "missed": "bold red", "no target": "dim"}
COLOURS = {"met": "#1f77b4", "missed": "#d62728", "no target": "#9aa0a6"}


def show(figures: Sequence[Figure], overloads: Sequence[Overload], console: Console) -> None:
    """Print a section per workload, a line per figure, then the overload."""
    table = Table("measure", "target", "measured", "turns", "verdict", title="The server on one core")
    workload = None
    for figure in figures:
        if figure.workload != workload:
            table.add_section()
            table.add_row(f"[bold]{figure.workload}[/]")
            workload = figure.workload
        sign = ">=" if figure.at_least else "<="
        table.add_row(
            figure.measure,
            "" if figure.target is None else f"{sign} {figure.target:g}",
            f"{figure.value:.3g}",
            f"{figure.lowest:.3g}-{figure.highest:.3g}",
            f"[{STYLES[figure.verdict]}]{figure.verdict}[/]",
        )
    console.print(table)
    if overloads:
        table = Table(
            "model",
            "offered / peak",
            "goodput / peak",
            "refused/s",
            "p99 of answered, ms",
            "deadline, ms",
            title="Overload",
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


def plot(figures: Sequence[Figure], overloads: Sequence[Overload], path: Path) -> None:
    """Draw the figures that have a target, each against it, and goodput under overload, into a PNG."""
    canvas = Canvas(figsize=(11, 4), layout="constrained")
    left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
    asked = [figure for figure in figures if figure.target is not None]
    names = [f"{figure.workload}: {figure.measure}" for figure in asked]
    scores = [figure.value / (figure.target or 1.0) for figure in asked]
    bars = left.barh(names, scores, color=[COLOURS[figure.verdict] for figure in asked])
    labels = [f"{figure.value:.2f} ({'≥' if figure.at_least else '≤'} {figure.target:g})" for figure in asked]
    over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    left.bar_label(bars, labels, fontsize=7, padding=4, bbox=over_the_line)
    left.margins(x=0.25)
    left.axvline(1.0, color="black", linestyle="--", linewidth=1)
    left.set_title("measured over target (red: missed)", fontsize=10)
    left.invert_yaxis()
    left.tick_params(labelsize=7)
    for model in dict.fromkeys(point.model for point in overloads):
        points = [point for point in overloads if point.model == model]
        factors = [point.offered_over_peak for point in points]
        right.plot(factors, [point.goodput_over_peak for point in points], "o-", label=f"goodput / peak, {model}")
    right.axhline(0.9, color="black", linestyle=":", linewidth=1)
    right.set_ylim(bottom=0)
    right.set_xlabel("offered load / peak")
    right.set_title("overload", fontsize=10)
    if overloads:
        right.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130)
