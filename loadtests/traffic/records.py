"""What became of each request, as rows of numbers that workers send home and files keep. Pure."""

import csv
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.plan import Choice

RECORD = np.dtype(
    [
        ("due", "<f8"),
        ("sent", "<f8"),
        ("ended", "<f8"),
        ("sample", "<u4"),
        ("attempts", "<u2"),
        ("stream", "?"),
        ("status", "i1"),
        ("verdict", "i1"),
        ("reason", "S20"),
    ]
)
"""Of a request: when it was due, first sent and ended, in seconds from the start; which sample; how often it was sent;
whether over a stream; gRPC status code, or one of those below; verdict on its answer; the server's reason."""
Records = NDArray[np.void]

OK, CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 0, 1, 4, 8
NOT_SENT, NOT_ENDED = -1, -2
"""In place of a status: too many requests were out when it was due; the run was stopped before its answer."""
STATUS_NAMES = {
    NOT_ENDED: "not ended",
    NOT_SENT: "not sent",
    **{int(each.value[0]): each.name for each in grpc.StatusCode},
}
UNCHECKED, WRONG, RIGHT = -1, 0, 1
"""Verdicts."""
COLUMNS = ("due", "sent", "ended", "latency", "model", "steps", "call", "attempts", "status", "reason", "answer")
"""Of the CSV file; times in seconds from the start."""


def latencies(records: Records) -> NDArray[np.float64]:
    """Return seconds from when each request was due until its end, float64[n].

    What a request waits before it is sent counts as well: a client that stalls while the server does would otherwise
    leave out just the slow part ("coordinated omission"; Tene, "How NOT to Measure Latency", 2013).
    """
    latency: NDArray[np.float64] = records["ended"] - records["due"]
    return latency


def join(parts: Sequence[bytes]) -> Records:
    """Return what workers sent home, RECORD[n], in the order of when they were due."""
    records = np.frombuffer(b"".join(parts), RECORD)
    return records[np.argsort(records["due"], kind="stable")]


def write_records(path: Path, records: Records, choices: Sequence[Choice]) -> None:
    """Write a line per request."""
    verdicts = {UNCHECKED: "unchecked", WRONG: "wrong", RIGHT: "right"}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record, latency in zip(records, latencies(records), strict=True):
            choice = choices[record["sample"]]
            times = (f"{value:.6f}" for value in (record["due"], record["sent"], record["ended"], latency))
            call = "stream" if record["stream"] else "unary"
            answer = verdicts[int(record["verdict"])] if record["status"] == OK else ""
            status = STATUS_NAMES[int(record["status"])]
            attempts = int(record["attempts"])
            writer.writerow(
                [*times, choice.model, choice.steps, call, attempts, status, record["reason"].decode(), answer]
            )
