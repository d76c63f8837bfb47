"""The benchmark for a person: a table and a plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from loadtests.benchmarks.int8_checks import ACCURACY_LOSS, Check

STYLES = {"met": "green", "missed": "bold red", "no target": "dim"}
COLOURS = {"met": "#1f77b4", "missed": "#d62728", "no target": "#9aa0a6"}
MEASURES = ("weights, bytes", "latency, batch 1", "latency, batch 32", "RMS error", ACCURACY_LOSS)
"""What is plotted, a panel each."""


def show(checks: Sequence[Check], console: Console) -> None:
    """Print a section per model, a line per check, and how many of the targets were met."""
    table = Table("measure", "target", "measured", "verdict", "why", title="INT8 against FP32, one thread")
    model = None
    for check in checks:
        if check.model != model:
            table.add_section()
            table.add_row(f"[bold]{check.model}[/]")
            model = check.model
        spread = "" if check.spread is None else f" ({check.spread.p25:.0%}-{check.spread.p75:.0%})"
        table.add_row(
            check.measure,
            "" if check.target is None else f"{check.target:.1%}",
            f"{check.measured:.2%}{spread}",
            f"[{STYLES[check.verdict]}]{check.verdict}{'?' if check.straddled else ''}[/]",
            check.why,
        )
    console.print(table)
    console.print(
        "Measured: ratio to FP32, in brackets the quartiles of the rounds; ?: the target lies between them. "
        "Why: FP32 to INT8.",
        highlight=False,
    )
    asked = [check for check in checks if check.target is not None]
    missed = [check for check in asked if check.verdict == "missed"]
    console.print(f"{len(asked) - len(missed)} of {len(asked)} targets met.", highlight=False)
    for check in missed:
        console.print(f"[bold red]missed[/] {check.model}, {check.measure}: {check.measured:.2%}; {check.why}")


def plot(checks: Sequence[Check], path: Path) -> None:
    """Draw a panel per measure, with a line at its target, into a PNG."""
    panels = [[check for check in checks if check.measure == measure] for measure in MEASURES]
    shown = [panel for panel in panels if panel]
    figure = Figure(figsize=(3.6 * len(shown), 3.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw(axes, panel)
    figure.savefig(path, dpi=130)


def _draw(axes: Axes, panel: Sequence[Check]) -> None:
    names = [check.model.replace(" ", "\n") for check in panel]
    heights = [check.measured * 100 for check in panel]
    drawn = axes.bar(names, heights, color=[COLOURS[check.verdict] for check in panel])
    for place, check in enumerate(panel):
        if check.spread is not None:
            axes.vlines(place, check.spread.p25 * 100, check.spread.p75 * 100, color="black", linewidth=1.5)
    axes.bar_label(drawn, fmt="{:.3g}", fontsize=8, label_type="center")
    targets = {check.target for check in panel if check.target is not None}
    for target in targets:
        axes.axhline(target * 100, color="black", linestyle="--", linewidth=1)
    unit = "percentage points" if panel[0].measure == ACCURACY_LOSS else "% of FP32"
    axes.set_title(f"{panel[0].measure}\n({unit}{', dashed: target' if targets else ''})", fontsize=10)
    axes.tick_params(axis="x", labelsize=7)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
