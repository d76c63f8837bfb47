"""Recorded arrivals: `seconds,model,steps` as CSV (with that header) or JSON lines (with those keys).

A production log becomes such a file by three columns, and every run leaves its own (`arrivals.csv`), to be sent again.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.lengths import MOST_STEPS

KEYS = ("seconds", "model", "steps")
LONGEST_GAP_SECONDS = 60.0
SUFFIXES = {".csv": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines"}


class Arrival(NamedTuple):
    """A request of the trace: seconds since it began, the model's name, and the sequence's steps."""

    seconds: float
    model: str
    steps: int


def read_trace(path: Path, *, longest_gap: float = LONGEST_GAP_SECONDS) -> list[Arrival]:
    """Read arrivals in the order of time.

    Args:
        path: `.csv`, `.jsonl` or `.ndjson`.
        longest_gap: seconds that may pass without an arrival, before the first too.

    Raises:
        TrafficError: the file cannot be read or is empty; or, with the line's number: other keys than the three, a time
            that is negative, falls or leaves too long a gap, steps that are none.
    """
    form = SUFFIXES.get(path.suffix)
    if form is None:
        raise TrafficError(f"{path}: unknown kind of trace; expected a name that ends with {', '.join(SUFFIXES)}")
    arrivals: list[Arrival] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            last = 0.0
            for number, fields in _csv_rows(path, file) if form == "CSV" else _json_rows(path, file):
                arrival = _arrival(path, number, fields)
                if arrival.seconds < last:
                    raise _wrong(path, number, f"time falls from {last:g} to {arrival.seconds:g} s; sort the lines")
                if arrival.seconds - last > longest_gap:
                    raise _wrong(
                        path,
                        number,
                        f"nothing arrives for {arrival.seconds - last:g} s; expected gaps of at most "
                        f"{longest_gap:g} s; cut the trace, or allow more with --longest-gap",
                    )
                last = arrival.seconds
                arrivals.append(arrival)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrafficError(f"{path}: cannot be read as {form} ({error})") from error
    if not arrivals:
        raise TrafficError(f"{path}: has no arrivals; expected at least one line of {','.join(KEYS)}")
    return arrivals


def write_trace(path: Path, arrivals: Iterable[Arrival]) -> None:
    """Write arrivals as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(KEYS)
        writer.writerows((f"{arrival.seconds:.6f}", arrival.model, arrival.steps) for arrival in arrivals)


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines)
    header = next(reader, [])
    if sorted(header) != sorted(KEYS):
        raise _wrong(path, 1, f"the columns are {','.join(header) or 'missing'}; expected {','.join(KEYS)}")
    for row in reader:
        if len(row) != len(header):
            raise _wrong(path, reader.line_num, f"{len(row)} fields; expected {len(header)}: {','.join(header)}")
        yield reader.line_num, dict(zip(header, row, strict=True))


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise _wrong(path, number, f"no JSON: {line.strip()!r:.80}; expected one object a line") from None
        if not isinstance(fields, dict) or sorted(fields) != sorted(KEYS):
            found = f"the keys {','.join(fields)}" if isinstance(fields, dict) else f"{line.strip()!r:.80}"
            raise _wrong(path, number, f"{found}; expected an object with the keys {','.join(KEYS)} and no others")
        yield number, fields


def _arrival(path: Path, number: int, fields: dict[str, Any]) -> Arrival:
    seconds, model, steps = (fields[key] for key in KEYS)
    try:
        moment = float(seconds)
    except (TypeError, ValueError):
        moment = math.nan
    if not 0 <= moment < math.inf or isinstance(seconds, bool):
        raise _wrong(path, number, f"seconds is {seconds!r:.40}; expected a number from 0")
    if not isinstance(model, str) or not model:
        raise _wrong(path, number, f"model is {model!r:.40}; expected a name")
    text = str(steps)
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 1 <= int(text) <= MOST_STEPS):
        raise _wrong(path, number, f"steps is {steps!r:.40}; expected a whole number from 1 to {MOST_STEPS}")
    return Arrival(moment, model, int(text))


def _wrong(path: Path, number: int, why: str) -> TrafficError:
    return TrafficError(f"{path}: line {number}: {why}")
