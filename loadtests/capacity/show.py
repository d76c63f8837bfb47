"""Capacities for a person: a table and a plot."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.capacity.search import Found
from loadtests.traffic.slo import Objectives

BLUE, RED, GREY = "#1f77b4", "#d62728", "#9aa0a6"
MILLISECONDS = 1000.0


def show(found: Mapping[str, Found], cores: int | None, console: Console) -> None:
    """Print a line per model, and why a number is refused."""
    table = Table(title="The highest rate that keeps the objectives (open loop, Poisson arrivals)")
    for heading in ("model", "requests/s", "per core", "p50, ms", "p99, ms", "lag, ms", "missed at"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, each in found.items():
        low, high, capacity = each.low, each.high, each.capacity
        table.add_row(
            model,
            "refused" if capacity is None else f"{capacity:.0f}",
            "-" if capacity is None or not cores else f"{capacity / cores:.0f}",
            *(("-", "-", "-") if low is None else tuple(map(_milliseconds, (low.p50, low.p99, low.lag_p99)))),
            "-" if high is None else f"{high.rate:.0f}",
        )
    console.print(table)
    of = "unknown cores" if cores is None else f"{cores} core{'s' if cores > 1 else ''}"
    console.print(f"The server computes on {of}. Lag: of the load generator, at p99.", highlight=False)
    for model, each in found.items():
        if each.refusal:
            console.print(f"[bold red]{model}[/]: {each.refusal}", highlight=False)
        elif each.high is not None:
            console.print(f"{model}: at {each.high.rate:.0f} requests/s, {each.high.missed}", highlight=False)


def plot(found: Mapping[str, Found], objectives: Objectives, path: Path) -> None:
    """Draw the p99 against the rate, a panel per model."""
    canvas = Canvas(figsize=(4.5 * len(found), 3.8), layout="constrained")
    for axes, (model, each) in zip(canvas.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        points = sorted(each.points, key=lambda point: point.rate)
        axes.plot([p.rate for p in points], [p.p99 * MILLISECONDS for p in points], color=GREY, linewidth=0.8, zorder=1)
        for label, colour, marker in (("kept", BLUE, "o"), ("missed", RED, "o"), ("generator's limit", GREY, "x")):
            chosen = [
                p for p in points if label == ("generator's limit" if p.limited else "kept" if p.kept else "missed")
            ]
            if chosen:
                axes.scatter(
                    [p.rate for p in chosen],
                    [p.p99 * MILLISECONDS for p in chosen],
                    color=colour,
                    marker=marker,
                    label=label,
                )
        if objectives.p99_seconds is not None:
            axes.axhline(objectives.p99_seconds * MILLISECONDS, color=RED, linestyle=":", label="objective")
        if each.capacity is not None:
            axes.axvline(each.capacity, color=BLUE, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.set_title(model if each.capacity is None else f"{model}: {each.capacity:.0f} requests/s", fontsize=10)
        axes.set_xlabel("requests/s offered")
        axes.set_ylabel("p99, ms")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=120)


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * MILLISECONDS:.1f}"
