"""What is said of a server, in words: the same for a terminal and for a file."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from serving.status.figures import Figures, Moment, VersionFigures, figures
from serving.status.looking import Look

NOTHING = "-"
"""Stands for what is not known, and for means of nothing."""
READY = "READY"
STATES = {"UNAVAILABLE": "down", "UNLOADING": "leaving"}
"""Words for states that are shorter than the protocol's."""
MIB = 2**20
MINUTE, HOUR, DAY = 60, 3600, 86400
Part = Literal["requests", "work"]


class Column(NamedTuple):
    """A figure of a version; `part` is the table that it is in where one is too wide for all."""

    heading: str
    part: Part
    cell: Callable[[VersionFigures], str]


@dataclass(frozen=True, slots=True)
class Row:
    """A version.

    Attributes:
        name: of model and version.
        state: in one word.
        serves: whether it takes requests; None if that is not known.
        cells: one for each of `COLUMNS`.
    """

    name: str
    state: str
    serves: bool | None
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class View:
    """One picture.

    Attributes:
        title: whose it is.
        ready: whether the server takes requests.
        facts: of the process, and what time the figures are of.
        rows: one for each version.
        failures: requests without an answer, and why.
        notes: what could not be seen or does not serve, and what to do.
    """

    title: str
    ready: bool
    facts: Sequence[str]
    rows: Sequence[Row]
    failures: Sequence[str] = field(default=())
    notes: Sequence[str] = field(default=())


def view(address: str, look: Look, before: Moment | None) -> View:
    """Return the picture of a look.

    Args:
        address: of the server.
        look: at it.
        before: since when rates and latencies are told; None: they are of the time since the server started.
    """
    found = None if look.moment is None else figures(look.moment, before)
    server = look.server
    return View(
        title=f"{server.name} {server.version} on {address}: {'ready' if server.ready else 'live, not ready'}",
        ready=server.ready,
        facts=[] if found is None else _facts(found),
        rows=_rows(look, found),
        failures=[] if found is None else _failures(found),
        notes=[*_refusals(look), *look.notes],
    )


def gone(address: str, why: str, seconds: float) -> View:
    """Return the picture of a server that was seen before and cannot be seen now.

    Args:
        address: of it.
        why: it cannot be seen, and what to do.
        seconds: until the next look.
    """
    return View(
        title=f"{address}: not reached",
        ready=False,
        facts=[f"looking again every {duration(seconds)}"],
        rows=[],
        notes=[why[:1].upper() + why[1:]],
    )


def number(value: float) -> str:
    """Return three digits of a number, all of those before the point."""
    if math.isnan(value):
        return NOTHING
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in the two units that say most of it."""
    if math.isnan(seconds):
        return "an unknown time"
    if seconds < MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, name, part, part_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name} {seconds % unit // part:.0f} {part_name}"
    raise AssertionError("a minute is the least")


def fixed(value: float, places: int) -> str:
    """Return a number with so many places after the point."""
    return NOTHING if math.isnan(value) else f"{value:,.{places}f}"


def _milliseconds(value: float, top: float) -> str:
    return f">{number(top * 1000)}" if value >= top else number(value * 1000)


def _percent(share: float) -> str:
    return number(share * 100)


COLUMNS = (
    Column("total", "requests", lambda of: number(of.total)),
    Column("req/s", "requests", lambda of: number(of.requests)),
    Column("rows/s", "requests", lambda of: number(of.rows)),
    Column("err/s", "requests", lambda of: number(of.errors)),
    Column("mean", "requests", lambda of: number(of.mean * 1000)),
    Column("p50", "requests", lambda of: _milliseconds(of.p50, of.top)),
    Column("p90", "requests", lambda of: _milliseconds(of.p90, of.top)),
    Column("p99", "requests", lambda of: _milliseconds(of.p99, of.top)),
    Column("queue", "work", lambda of: number(of.queue_rows)),
    Column("live", "work", lambda of: number(of.live_rows)),
    Column("backlog", "work", lambda of: fixed(of.backlog, 3)),
    Column("rows/call", "work", lambda of: number(of.rows_per_call)),
    Column("occ%", "work", lambda of: _percent(of.occupancy)),
    Column("real%", "work", lambda of: _percent(of.padding_efficiency)),
    Column("busy", "work", lambda of: fixed(of.busy, 2)),
    Column("engine", "work", lambda of: f"{of.precision} {of.engine}".strip() or NOTHING),
)


def _facts(found: Figures) -> list[str]:
    facts = []
    if not math.isnan(found.up_seconds):
        facts.append(f"up {duration(found.up_seconds)}")
    if not math.isnan(found.cpu_cores):
        facts.append(f"CPU {number(found.cpu_cores)} of {number(found.cpu_budget_cores)} cores")
    if not math.isnan(found.memory_bytes):
        facts.append(f"memory {found.memory_bytes / MIB:,.0f} MiB")
    over = "since the start" if found.since_start else f"of the last {duration(found.over_seconds)}"
    return [*facts, f"figures {over}", "durations in ms, backlog in s"]


def _rows(look: Look, found: Figures | None) -> list[Row]:
    counted: Mapping[tuple[str, str], VersionFigures] = {} if found is None else found.versions
    states = {(each.model, each.version): each.state for each in look.index or ()}
    rows = []
    for model, version in sorted({*states, *counted}, key=_in_order):
        state = states.get((model, version), "")
        cells = [column.cell(counted.get((model, version), VersionFigures())) for column in COLUMNS]
        serves = None if look.index is None else state == READY
        rows.append(Row(f"{model}/{version}", STATES.get(state, state.lower()) or NOTHING, serves, cells))
    return rows


def _in_order(key: tuple[str, str]) -> tuple[str, int, str]:
    model, version = key
    return model, int(version) if version.isdecimal() else 0, version


def _failures(found: Figures) -> list[str]:
    told = [
        f"{model}/{version}: {_outcomes(of.failed)}" for (model, version), of in found.versions.items() if of.failed
    ]
    if found.astray:
        told.append(f"of no model: {_outcomes(found.astray)}")
    return told


def _outcomes(failed: Mapping[str, float]) -> str:
    return ", ".join(f"{count:,.0f} {outcome}" for outcome, count in failed.items())


def _refusals(look: Look) -> Iterable[str]:
    for each in sorted(look.index or (), key=lambda each: _in_order((each.model, each.version))):
        if each.state != READY:
            yield f"{each.model}/{each.version} {each.reason or f'is {each.state.lower()}'}"
