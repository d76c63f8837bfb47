"""The soak for a person: tables and a plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.soak.driving import ALLOWED, Tally
from loadtests.soak.watching import Sample

BLUE, GREY, RED = "#1f77b4", "#9aa0a6", "#d62728"


def show(tally: Tally, figures: dict[str, float], console: Console) -> None:
    """Print what became of the requests, and what the process took."""
    table = Table("kind", "outcome", "requests", "verdict", title="What became of every request")
    for (kind, outcome), count in sorted(tally.ended.items()):
        table.add_row(kind, outcome, f"{count:,}", "" if outcome in ALLOWED[kind] else "[bold red]wrong[/]")
    console.print(table)
    table = Table("figure", "value", title="What the server took")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.4g}")
    console.print(table)
    for surprise in tally.surprises:
        console.print(surprise, style="red")


def plot(samples: Sequence[Sample], reloads: Sequence[float], path: Path) -> None:
    """Draw memory, throughput and latency over time; reloads are grey lines."""
    canvas = Canvas(figsize=(9, 7), layout="constrained")
    memory, rate, latency = canvas.subplots(3, 1, sharex=True)
    minutes = [sample.seconds / 60 for sample in samples]
    memory.plot(minutes, [sample.rss_mib for sample in samples], color=BLUE, label="resident")
    memory.plot(minutes, [sample.anonymous_mib for sample in samples], color=GREY, label="heap and stacks")
    memory.set_ylabel("MiB")
    rate.plot(minutes, [sample.answered_per_second for sample in samples], color=BLUE, linewidth=0.7)
    rate.set_ylabel("answers/s")
    latency.plot(minutes, [1000 * sample.p50 for sample in samples], color=BLUE, linewidth=0.7, label="p50")
    latency.plot(minutes, [1000 * sample.p99 for sample in samples], color=RED, linewidth=0.7, label="p99")
    latency.set_ylabel("ms")
    latency.set_yscale("log")
    latency.set_xlabel("minutes")
    for axes in (memory, rate, latency):
        for at in reloads:
            axes.axvline(at / 60, color=GREY, linewidth=0.3)
        if axes is not latency:
            axes.set_ylim(bottom=0)
    memory.legend(loc="lower right")
    latency.legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=120)
