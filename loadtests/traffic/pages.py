"""The server's own figures during the run: what its metrics showed, second by second."""

import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = 5.0
"""That a page may take."""
BACKLOG = "lstm_backlog_seconds"
OCCUPANCY_SUM, OCCUPANCY_COUNT = "lstm_batch_occupancy_ratio_sum", "lstm_batch_occupancy_ratio_count"
WANTED = (BACKLOG, OCCUPANCY_SUM, OCCUPANCY_COUNT)
_LINE = re.compile(r'^(\w+)\{[^}]*model="([^"]*)"[^}]*\} (\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the metrics showed at a moment.

    Attributes:
        seconds: from the start of the load.
        values: by metric and model; the versions of a model are added.
    """

    seconds: float
    values: dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A model on the server over time.

    Attributes:
        seconds: of the looks, from the start of the load.
        backlog: predicted seconds of accepted work, at each look.
        occupancy: mean of the engine calls since the look before, NaN if there were none.
    """

    seconds: list[float]
    backlog: list[float]
    occupancy: list[float]


def read_page(url: str, *, start: float) -> Page:
    """Look at the metrics.

    Only the lines that are wanted are read: parsing a whole page takes as long as sending dozens of requests.

    Args:
        url: of the page.
        start: of the load, on the monotonic clock.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no page of metrics.
    """
    with urllib.request.urlopen(url, timeout=SECONDS) as page:  # noqa: S310  a server's metrics
        text = page.read().decode()
    values: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if line.startswith(WANTED) and (match := _LINE.match(line)):
            name, model, value = match.groups()
            values[name, model] = values.get((name, model), 0.0) + float(value)
    return Page(seconds=time.monotonic() - start, values=values)


def course_of(pages: Sequence[Page], model: str) -> Course:
    """Return what the pages say of a model."""
    occupancy = []
    for before, page in zip([None, *pages], pages, strict=False):
        total, count = (
            page.values.get((name, model), 0.0) - (before.values.get((name, model), 0.0) if before else 0.0)
            for name in (OCCUPANCY_SUM, OCCUPANCY_COUNT)
        )
        occupancy.append(total / count if before and count > 0 else float("nan"))
    return Course(
        seconds=[page.seconds for page in pages],
        backlog=[page.values.get((BACKLOG, model), 0.0) for page in pages],
        occupancy=occupancy,
    )
