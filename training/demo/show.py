"""The demo's result for a person: a table on the console and a plot."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training.demo.outcome import Outcome
from training.demo.plot import Panel, write_plot

PLOT_FILE = "demo.png"


def show(console: Console, outcomes: Sequence[Outcome], metrics: Sequence[str], models: Path, output: Path) -> None:
    """Print the table, the metrics and how to go on, and write the plot into `output`."""
    write_plot(_panels(outcomes), output / PLOT_FILE)
    table = Table(title="Held-out real data through the server, every row a request of its own")
    for heading in ("model", "rows", "metric", "PyTorch", "FP32", "INT8", "kB", "ms"):
        table.add_column(heading, justify="left" if heading in {"model", "metric"} else "right")
    for outcome in outcomes:
        table.add_row(
            outcome.example.name,
            str(outcome.rows),
            outcome.example.metric_name,
            *(f"{value:.4f}" for value in (outcome.pytorch, outcome.fp32, outcome.int8)),
            f"{outcome.bytes_fp32 / 1e3:.0f}/{outcome.bytes_int8 / 1e3:.0f}",
            f"{outcome.seconds_fp32 * 1e3:.2f}/{outcome.seconds_int8 * 1e3:.2f}",
        )
    console.print(table)
    console.print(
        "kB: files served, FP32/INT8. ms: median call of one row on the idle server, wire included, FP32/INT8."
    )
    console.print("From /metrics (requests answered, engine calls, rows in them):")
    for line in metrics:
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(f"Plot: {output / PLOT_FILE}   Reports: {models}/*/*/report.md")
    console.print("The server was stopped. Go on alone:", style="bold")
    for command in (
        ". .venv/bin/activate",
        f"lstm-serve --model-repository {models}",
        "curl -s localhost:8002/metrics | grep ^lstm_   # in a second terminal",
        "lstm-export torch --help                       # your own model",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def _panels(outcomes: Sequence[Outcome]) -> list[Panel]:
    classifiers = [outcome for outcome in outcomes if outcome.example.higher_is_better]
    forecasts = [outcome for outcome in outcomes if not outcome.example.higher_is_better]
    panels = [
        Panel(
            title=title,
            groups=[outcome.example.name for outcome in chosen],
            bars={
                "PyTorch": [outcome.pytorch for outcome in chosen],
                "FP32": [outcome.fp32 for outcome in chosen],
                "INT8": [outcome.int8 for outcome in chosen],
            },
            form="{:.3f}",
        )
        for title, chosen in (
            ("accuracy on held-out rows", classifiers),
            ("mean absolute error (°C)", forecasts),
        )
    ]
    groups = [outcome.example.name for outcome in outcomes]
    sizes = {
        "FP32": [outcome.bytes_fp32 / 1e3 for outcome in outcomes],
        "INT8": [outcome.bytes_int8 / 1e3 for outcome in outcomes],
    }
    times = {
        "FP32": [outcome.seconds_fp32 * 1e3 for outcome in outcomes],
        "INT8": [outcome.seconds_int8 * 1e3 for outcome in outcomes],
    }
    return [
        *panels,
        Panel(title="files served (kB)", groups=groups, bars=sizes, form="{:.0f}"),
        Panel(title="one call, idle server (ms)", groups=groups, bars=times, form="{:.2f}"),
    ]
