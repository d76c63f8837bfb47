"""The calibration for a person: a table and a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

TARGET = 0.15
"""Of the real figure, how far off the simulation should be at most."""
BLUE, RED, GREY = "#1f77b4", "#d62728", "#9aa0a6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure under one load.

    Attributes:
        load: its name.
        measure: with its unit.
        real: in each turn.
        simulated: by one replica, with what things took in each turn.
    """

    load: str
    measure: str
    real: list[float]
    simulated: list[float]

    @property
    def deviation(self) -> float:
        """Of the median simulated figure from the median real one, relative."""
        real = median(self.real)
        return median(self.simulated) / real - 1 if real else float("nan")

    @property
    def met(self) -> bool:
        """Whether the simulation is near enough."""
        return abs(self.deviation) <= TARGET


def show(model: str, comparisons: Sequence[Comparison], console: Console) -> None:
    """Print a section per load."""
    table = Table("measure", "real", "turns", "simulated", "turns", "off by", title=f"{model}: real and simulated")
    load = None
    for line in comparisons:
        if line.load != load:
            table.add_section()
            table.add_row(f"[bold]{line.load}[/]")
            load = line.load
        style = "green" if line.met else "bold red"
        table.add_row(
            line.measure,
            f"{median(line.real):.4g}",
            f"{min(line.real):.4g}-{max(line.real):.4g}",
            f"{median(line.simulated):.4g}",
            f"{min(line.simulated):.4g}-{max(line.simulated):.4g}",
            f"[{style}]{line.deviation:+.0%}[/]",
        )
    console.print(table)
    near = sum(line.met for line in comparisons)
    console.print(f"{near} of {len(comparisons)} within {TARGET:.0%}.", highlight=False)


def plot(models: Mapping[str, Sequence[Comparison]], path: Path) -> None:
    """Draw simulated over real by load, one panel per measure, into a PNG."""
    measures = list(dict.fromkeys(line.measure for lines in models.values() for line in lines))
    canvas = Canvas(figsize=(3.2 * len(measures), 4), layout="constrained")
    panels = canvas.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        for model, colour in zip(models, (BLUE, RED, GREY), strict=False):
            lines = [line for line in models[model] if line.measure == measure]
            ratios = [line.deviation + 1 for line in lines]
            least = [median(line.simulated) / max(line.real) for line in lines]
            most = [median(line.simulated) / min(line.real) for line in lines]
            bars = [
                [max(0.0, ratio - low) for ratio, low in zip(ratios, least, strict=True)],
                [max(0.0, high - ratio) for ratio, high in zip(ratios, most, strict=True)],
            ]
            axes.errorbar([line.load for line in lines], ratios, bars, fmt="o", color=colour, capsize=3, label=model)
        axes.axhspan(1 - TARGET, 1 + TARGET, color=GREY, alpha=0.2, linewidth=0)
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set_title(measure, fontsize=10)
        axes.tick_params(axis="x", rotation=60, labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("simulated over real\n(bars: the turns of the real server)")
    panels[0].legend(fontsize=8)
    canvas.savefig(path, dpi=120)
