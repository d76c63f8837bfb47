"""`docs/status.md` against the program: its columns, options and metrics, and nothing else."""

import re
from pathlib import Path

from serving.status import parser
from serving.status.view import COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "status.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_column_is_told_in_its_order() -> None:
    assert first_cells(section("The columns")) == ["model", "state", *(column.heading for column in COLUMNS)]


def test_the_sample_has_every_column() -> None:
    sample = re.findall(r"^```text\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    headings = next(line for line in sample.splitlines() if line.startswith("model ")).split()

    assert headings == ["model", "state", *(column.heading for column in COLUMNS)]


def test_every_option_is_told() -> None:
    told = {
        word for cell in first_cells(section("Whom it asks, and as whom")) for word in re.findall(r"--[a-z-]+", cell)
    }

    assert told == set(re.findall(r"--[a-z][a-z-]+", parser().format_usage()))


def test_metrics_that_are_named_are_there() -> None:
    named = set(re.findall(r"`(lstm_\w+)`", PAGE))

    assert len(named) > 10
    assert named <= set(re.findall(r"^\| `(lstm_\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE))
