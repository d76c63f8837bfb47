"""`lstm-export verify`: are the proofs of these versions true on this machine?"""

from pathlib import Path

import onnxruntime
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.proving.latency import describe_cpu
from export.reporting.markdown import number
from export.reporting.report import limits
from export.rerun import Outcome, Settings, rerun
from export.versions import find_versions
from serving.errors import ArtifactError
from serving.manifest import Manifest, Proof, read_manifest

MOVED = 0.01
"""Relative change of a figure from which the table points at it."""


def verify(path: Path, settings: Settings, console: Console) -> bool:
    """Repeat what can be repeated of every version at or below `path` and print old against new.

    Returns:
        Whether every check passed; a changed or damaged file is a failed one.

    Raises:
        ExportError: no version there, no such device, or the data or the metric do not fit.
    """
    directories = find_versions(path)
    console.print(f"CPU: {escape(describe_cpu())}; onnxruntime {onnxruntime.__version__}; device {settings.device}")
    failures = [failure for directory in directories for failure in _verify_one(directory, settings, console)]
    for failure in failures:
        console.print(f"[bold red]FAILED[/bold red] {escape(failure)}", soft_wrap=True)
    if not failures:
        console.print(f"[green]all checks that could be re-run passed[/green] ({len(directories)} versions)")
    return not failures


def _verify_one(directory: Path, settings: Settings, console: Console) -> list[str]:
    """Check one version; returns what failed."""
    name = f"{directory.parent.name}/{directory.name}"
    try:
        manifest = read_manifest(directory)
    except ArtifactError as error:
        return [f"{name}: checksum: {error}"]
    with console.status(f"verifying {name}"):
        outcomes = rerun(directory, manifest, settings)
    console.print(_table(manifest, outcomes, settings))
    return [f"{name}: {outcome.name}: {_broken(outcome.here)}" for outcome in outcomes if outcome.failed]


def _broken(proof: Proof | None) -> str:
    assert proof is not None
    measured = {key: proof.measured.get(key) for key in proof.limit or {}}
    return f"measured {measured}, the limit is {limits(proof)}"


def _table(manifest: Manifest, outcomes: list[Outcome], settings: Settings) -> Table:
    data = "noise" if settings.data is None else settings.data
    table = Table(title=f"{manifest.name}/{manifest.version}, {manifest.precision.upper()}, verified with {data}")
    for column in ("check", "figure", "recorded", "here", "limit", "verdict"):
        table.add_column(
            column,
            justify="right" if column in {"recorded", "here"} else "left",
            overflow="fold",
            no_wrap=column == "figure",
        )
    table.add_row("checksum", "sha256", manifest.file.sha256[:12], manifest.file.sha256[:12], "", "passed")
    for outcome in outcomes:
        for row in _rows(outcome):
            table.add_row(*map(escape, row[:-1]), row[-1])
    return table


def _rows(outcome: Outcome) -> list[tuple[str, ...]]:
    recorded = outcome.recorded.measured if outcome.recorded else {}
    if outcome.here is None:
        return [(outcome.name, "", "", "", "", f"[yellow]{escape(outcome.reason)}[/yellow]")]
    here, bounds = outcome.here.measured, outcome.here.limit or {}
    rows = []
    for index, key in enumerate(dict.fromkeys([*here, *(key for key in recorded if key in bounds)])):
        old, new = recorded.get(key), here.get(key)
        verdict = _verdict(outcome.here) if index == 0 else ""
        shown = ["" if value is None else number(value) for value in (old, new)]
        limit = f"{bounds[key]:g}" if key in bounds else ""
        rows.append((outcome.name if index == 0 else "", key, *shown, limit, verdict or _change(old, new)))
    return rows


def _verdict(proof: Proof) -> str:
    if not proof.passed:
        return "[bold red]FAILED[/bold red]"
    return "reported" if proof.limit is None else "[green]passed[/green]"


def _change(old: float | str | None, new: float | str | None) -> str:
    if not isinstance(old, int | float) or not isinstance(new, int | float) or old == new:
        return ""
    if old == 0 or abs(new / old - 1) > MOVED:
        return "" if old == 0 else f"[dim]x{new / old:.3g}[/dim]"
    return ""
