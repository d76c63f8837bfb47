"""A run for a person: a page, files of its numbers, and tables in the terminal."""

import base64
import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.traffic.figures import Figures, outcomes_of
from loadtests.traffic.plots import draw
from loadtests.traffic.records import write_records
from loadtests.traffic.result import Result
from loadtests.traffic.trace import Arrival, write_trace

PAGE, PICTURE, REQUESTS, ARRIVALS, RECORD = "load.html", "load.png", "requests.csv", "arrivals.csv", "load.json"
HEADINGS = ("model", "requests", "in time/s", "shed", "errors", "wrong", "p50", "p99", "p99.9")
STYLE = """body{font:14px system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ddd;padding:.3em .8em;text-align:right}
td:first-child,th:first-child{text-align:left}.kept{color:#2ca02c}.missed{color:#d62728;font-weight:bold}
img{max-width:100%}"""


def write_report(result: Result) -> Path:
    """Write the page, its picture, a line per request, the arrivals as a trace, and the figures; return the folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = result.options.output
    folder.mkdir(parents=True, exist_ok=True)
    draw(result, folder / PICTURE)
    write_records(folder / REQUESTS, result.records, result.choices)
    write_trace(folder / ARRIVALS, _arrivals(result))
    (folder / RECORD).write_text(json.dumps(record_of(result), indent=1) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(_page(result, (folder / PICTURE).read_bytes()), encoding="utf-8")
    return folder


def show(result: Result, console: Console) -> None:
    """Print the tables."""
    caption = "wrong: of the answers that were compared. Latencies in ms, from when a request was due."
    table = Table(*HEADINGS, title=f"{result.address}, {_manner(result)}", caption=caption)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    table = Table("outcome", "reason", "requests", title="What became of every request")
    for (status, reason), count in sorted(outcomes_of(result.records).items()):
        table.add_row(status, reason, f"{count:,}")
    if result.whole.lost:
        table.add_row("lost", "", f"{result.whole.lost:,}")
    console.print(table)
    table = Table("objective", "limit", "measured", "verdict", title="Objectives")
    for words, limit, measured, kept in _verdicts(result):
        table.add_row(words, limit, measured, "[green]kept[/]" if kept else "[bold red]missed[/]")
    console.print(table)
    for warning in result.warnings:
        console.print(f"[yellow]![/] {warning}", highlight=False)


def record_of(result: Result) -> dict[str, Any]:
    """Return all figures, and what they were measured with, as JSON has it; what is not known is null."""
    options = result.options
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("locust", "gevent", "grpcio", "numpy")},
        "server": result.address,
        "manner": _manner(result),
        "seed": options.seed,
        "processes": result.processes,
        "models": [model.name if not model.version else f"{model.name}/{model.version}" for model in result.models],
        "figures": {"all": _numbers(result.whole)}
        | {model.name: _numbers(result.of_model(model.name)) for model in result.models},
        "outcomes": {
            " ".join(filter(None, pair)): count for pair, count in sorted(outcomes_of(result.records).items())
        },
        "objectives": [
            {
                "objective": verdict.objective,
                "limit": verdict.limit,
                "measured": None if math.isnan(verdict.measured) else verdict.measured,
                "kept": verdict.kept,
            }
            for verdict in result.verdicts
        ],
        "warnings": result.warnings,
        "passed": result.passed,
    }


def _numbers(figures: Figures) -> dict[str, float | None]:
    names = (*figures.__slots__, "lost", "goodput_per_second", "offered_per_second", "error_share", "shed_share")
    values = {name: float(getattr(figures, name)) for name in names}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _rows(result: Result) -> list[list[str]]:
    named = [(model.name, result.of_model(model.name)) for model in result.models]
    if len(named) > 1 or result.whole.lost:
        named.append(("all", result.whole))
    return [
        [
            name,
            f"{figures.due:,}",
            f"{figures.goodput_per_second:.1f}",
            f"{figures.shed:,}",
            f"{figures.errors:,}",
            f"{figures.wrong}/{figures.right + figures.wrong}",
            *(_milliseconds(value) for value in (figures.p50, figures.p99, figures.p999)),
        ]
        for name, figures in named
    ]


def _verdicts(result: Result) -> list[tuple[str, str, str, bool]]:
    return [
        (
            verdict.objective,
            f"{'>=' if verdict.at_least else '<='} {verdict.limit:g}",
            "nothing" if math.isnan(verdict.measured) else f"{verdict.measured:.4g}",
            verdict.kept,
        )
        for verdict in result.verdicts
    ]


def _manner(result: Result) -> str:
    options = result.options
    what = "a trace" if options.trace is not None else f"up to {options.profile.highest:g}"
    loop = (
        f"open loop, {what}{'' if options.trace is not None else ' arrivals/s'}" if options.open else f"{what} callers"
    )
    return f"{loop}, {result.seconds:.0f} s, deadline {options.deadline:g} s"


def _arrivals(result: Result) -> list[Arrival]:
    order = result.records[["due", "sample"]]
    choices = result.choices
    return [
        Arrival(max(0.0, float(due)), choices[sample].model, choices[sample].steps) for due, sample in order.tolist()
    ]


def _page(result: Result, picture: bytes) -> str:
    verdict = "All objectives are kept." if result.passed else "Not all objectives are kept."
    outcomes = [
        [status, reason, f"{count:,}"] for (status, reason), count in sorted(outcomes_of(result.records).items())
    ]
    verdicts = [
        [words, limit, measured, "kept" if kept else "missed"] for words, limit, measured, kept in _verdicts(result)
    ]
    image = base64.b64encode(picture).decode()
    machine = record_of(result)["machine"]
    facts = [
        _manner(result),
        f"{result.processes} processes that send",
        f"{machine['cpu']}, {machine['cores']} cores",
        f"lag of the load generator at p99 {_milliseconds(result.whole.lag_p99)} ms",
    ]
    parts = [
        f"<h1>Load on {escape(result.address)}</h1>",
        f'<p class="{"kept" if result.passed else "missed"}">{verdict}</p>',
        f"<p>{escape('; '.join(facts))}</p>",
        *(f"<p>&#9888; {escape(warning)}</p>" for warning in result.warnings),
        _table(HEADINGS, _rows(result)),
        f'<img alt="latency, outcomes, and the server over time" src="data:image/png;base64,{image}">',
        _table(("objective", "limit", "measured", "verdict"), verdicts),
        _table(("outcome", "reason", "requests"), outcomes),
        "<p>Latencies are in ms, and count from when a request was due, not from when it was sent.</p>",
    ]
    return f'<!doctype html><meta charset="utf-8"><title>Load</title><style>{STYLE}</style>{"".join(parts)}\n'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{cell}">{cell}</td>' if cell in {"kept", "missed"} else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.1f}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
