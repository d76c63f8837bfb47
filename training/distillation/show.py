"""What distillation came to, for a person: a table and sentences on the console, and a plot."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from training.distillation.contestants import BATCHES
from training.distillation.report import Report

CONTROL = "control"
COLOURS = ("#9aa0a6", "#1f77b4", "#ff7f0e", "#c7c7c7")
"""Of the contestants and the control."""


def show(report: Report, console: Console) -> None:
    """Print the table and the sentences."""
    console.print(_table(report))
    console.print("control: the student's size and seed, trained without the teacher. ms: median of turns.")
    for sentence in report.sentences():
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def plot(report: Report, path: Path) -> None:
    """Draw the metric, the size of the files and the two latencies of the contestants into a PNG."""
    panels = _panels(report)
    figure = Figure(figsize=(4 * len(panels), 3.0), layout="constrained")
    for axes, (title, bars, form) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        drawn = axes.bar(list(bars), list(bars.values()), color=COLOURS[: len(bars)])
        axes.bar_label(drawn, labels=[form.format(value) for value in bars.values()], fontsize=8, padding=1)
        axes.set_title(title, fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _panels(report: Report) -> list[tuple[str, Mapping[str, float], str]]:
    """Return title, value of each bar and how values are written."""
    metric = {one.name: one.metric for one in report.contestants} | {CONTROL: report.learned.without_teacher[0]}
    return [
        (f"{report.task.metric.name}, held-out rows", metric, "{:.3f}"),
        ("ONNX file, kB", {one.name: one.bytes / 1e3 for one in report.contestants}, "{:,.0f}"),
        *(
            (
                f"batch {batch}, {report.steps} steps, ms",
                {one.name: one.seconds[batch].median * 1e3 for one in report.contestants},
                "{:.2f}",
            )
            for batch in BATCHES
        ),
    ]


def _table(report: Report) -> Table:
    """Return one row per contestant, and one for the control, which is timed as the student."""
    metric = report.task.metric
    table = Table(title=f"{report.task.recipe.name}: {report.test_rows} held-out rows, one thread, onnxruntime")
    for heading in ("model", "parameters", "ONNX, kB", metric.name, *(f"batch {batch}, ms" for batch in BATCHES)):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for one in report.contestants:
        table.add_row(
            one.name,
            f"{one.parameters:,}",
            f"{one.bytes / 1e3:,.0f}",
            f"{one.metric:.4f}",
            *(f"{one.seconds[batch].median * 1e3:.2f}" for batch in BATCHES),
        )
    control = f"{report.learned.without_teacher[0]:.4f}"
    table.add_row(
        CONTROL, f"{report.learned.student_parameters:,}", "as student", control, *("as student" for _ in BATCHES)
    )
    return table
