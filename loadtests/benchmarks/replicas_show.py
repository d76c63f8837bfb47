"""The replicas' benchmark for a person: tables and a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.table import Table

from loadtests.benchmarks.serving_figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """So many replicas under load.

    Attributes:
        replicas: how many.
        over_one: answers a second over those of one replica in the same turn.
        rate: answers a second.
        p50_ms: of the answered.
        p99_ms: of the answered.
        failed: calls without an answer, of all turns.
    """

    replicas: int
    over_one: Figure
    rate: Figure
    p50_ms: Figure
    p99_ms: Figure
    failed: int


def show(points: Sequence[Scaling], figures: Sequence[Figure], console: Console) -> None:
    """Print a line per number of replicas, then a line per figure."""
    table = Table("replicas", "over one", "turns", "answers/s", "p50, ms", "p99, ms", "failed", title="Scaling")
    for point in points:
        table.add_row(
            str(point.replicas),
            f"{point.over_one.value:.2f}",
            f"{point.over_one.lowest:.2f}-{point.over_one.highest:.2f}",
            f"{point.rate.value:.0f}",
            f"{point.p50_ms.value:.1f}",
            f"{point.p99_ms.value:.1f}",
            str(point.failed),
        )
    console.print(table)
    table = Table("what", "measure", "measured", "turns", title="Envoy, and cores that are full")
    for each in figures:
        table.add_row(each.workload, each.measure, f"{each.value:.3g}", f"{each.lowest:.3g} to {each.highest:.3g}")
    console.print(table)


def plot(points: Sequence[Scaling], path: Path, *, share: float) -> None:
    """Draw throughput over the number of replicas into a PNG.

    Args:
        points: one for each number of replicas.
        path: of the PNG.
        share: of a core that each replica has.
    """
    canvas = Canvas(figsize=(11, 4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    counts = [point.replicas for point in points]
    full = 1 / share
    left.plot([1, full, max(counts)], [1, full, full], "--", color="#9aa0a6", label="all that the core can give")
    middle = [point.over_one.value for point in points]
    below = [point.over_one.value - point.over_one.lowest for point in points]
    above = [point.over_one.highest - point.over_one.value for point in points]
    left.errorbar(counts, middle, yerr=[below, above], fmt="o-", capsize=3, color="#1f77b4", label="measured")
    left.axvline(full, color="black", linestyle=":", linewidth=1)
    left.set_title("answers/s over one replica (dotted: the core is full)", fontsize=10)
    left.set_ylim(bottom=0)
    left.legend(fontsize=8)
    right.plot(counts, [point.p50_ms.value for point in points], "o-", color="#1f77b4", label="p50")
    right.plot(counts, [point.p99_ms.value for point in points], "o-", color="#d62728", label="p99")
    right.set_title("latency, ms", fontsize=10)
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlabel(f"replicas, {share:.0%} of a core each")
        axes.set_xticks(counts)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130)
