"""Records and figures made by hand."""

from collections.abc import Sequence

import numpy as np

from loadtests.traffic.figures import Figures
from loadtests.traffic.records import OK, RECORD, UNCHECKED, Records


def records_of(rows: Sequence[dict[str, object]]) -> Records:
    """Return RECORD[rows]: sent when due, ended a second later, answered and compared with nothing, unless told."""
    records = np.zeros(len(rows), RECORD)
    for record, row in zip(records, rows, strict=True):
        due = float(row.get("due", 0.0))  # type: ignore[arg-type]
        fields = {"sent": due, "ended": due + 1.0, "attempts": 1, "status": OK, "verdict": UNCHECKED} | row
        for name, value in fields.items():
            record[name] = value
    return records


def figures(**changed: float) -> Figures:
    """Return those of a perfect second of a hundred requests, but for what is told."""
    perfect = {
        "seconds": 1.0, "due": 100, "ended": 100, "answered": 100, "in_time": 100, "right": 100, "unchecked": 0, "wrong": 0,
        "shed": 0, "errors": 0, "p50": 0.01, "p99": 0.02, "p999": 0.03, "lag_p99": 0.0,
    }  # fmt: skip
    return Figures(**(perfect | changed))  # type: ignore[arg-type]
