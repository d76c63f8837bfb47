"""The server against its engine's limit: `python -m loadtests.benchmarks.serving [--output DIR] [--quick]`.

The server has one core to itself, the load comes from another, and everything is a ratio within this run: to
onnxruntime alone on the server's core at its best batch, to grpcio's own empty server, to another way of batching on
the same server. Both fronts are measured, each in a server of its own, of which one is under load at a time. Variants
take turns, and figures are medians of the turns.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from export.artefact import tool_versions
from export.errors import ExportError
from export.job import now
from export.proving.latency import describe_cpu
from loadtests.benchmarks.serving_connections import many_connections
from loadtests.benchmarks.serving_figures import Figure
from loadtests.benchmarks.serving_fronts import NATIVE, fronts_here, server_with
from loadtests.benchmarks.serving_measuring import CLIENT_CORE, SERVER_CORE, Target
from loadtests.benchmarks.serving_models import MEDIUM, TINY, WIDE, write_empty_model, write_models
from loadtests.benchmarks.serving_overload import Overload, overload
from loadtests.benchmarks.serving_show import plot, show
from loadtests.benchmarks.serving_workloads import (
    Bench,
    empty_model,
    idle_server,
    mixed_lengths,
    on_and_off,
    outliers,
    steady,
    tiny,
)
from loadtests.generator.program import build
from serving.wire.native import library
from training.files import write_json

OFF = "max_batch_rows: 1"
FIFO = "batching: fifo\nmax_batch_rows: 64"
PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "W1": tiny,
    "W2": steady,
    "W3": mixed_lengths,
    "W4": outliers,
    "on-off": on_and_off,
    "empty": empty_model,
    "idle": idle_server,
    "connections": many_connections,
}
WORKLOADS = (*PARTS, "overload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long things take, in seconds, how often they are repeated, and what many connections are."""

    seconds: float
    engine_seconds: float
    repeats: int
    connections: int
    in_flight: int


FULL = Effort(seconds=5.0, engine_seconds=0.7, repeats=3, connections=1_000, in_flight=10_000)
QUICK = Effort(seconds=0.7, engine_seconds=0.05, repeats=1, connections=100, in_flight=1_000)


@dataclass(slots=True)
class Report:
    """What was measured."""

    figures: list[Figure] = field(default_factory=list)
    overloads: list[Overload] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 0 whatever was measured, 1 if it could not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmarks.serving", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="folder for JSON and plot"
    )
    parser.add_argument("--quick", action="store_true", help="a second for everything: to try it out")
    parser.add_argument("--only", default=",".join(WORKLOADS), metavar="NAMES", help=f"some of {','.join(WORKLOADS)}")
    given = parser.parse_args(arguments)
    chosen = given.only.split(",")
    if unknown := sorted(set(chosen) - set(WORKLOADS)):
        parser.error(f"--only: unknown {unknown}; there are {list(WORKLOADS)}")
    if len(os.sched_getaffinity(0)) <= max(SERVER_CORE, CLIENT_CORE):
        parser.error("two cores are needed: one for the server, one for the load")
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        run(given.output, chosen, QUICK if given.quick else FULL, Console())
    except (ExportError, RuntimeError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


def run(output: Path, chosen: Sequence[str], effort: Effort, console: Console) -> Report:
    """Measure, print, and write `serving.json` and `serving.png` into the folder `output`, which must exist.

    Raises:
        ExportError: a model cannot be exported or quantized.
        RuntimeError: the load generator cannot be built, or a server did not become ready.
    """
    report = Report()
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder), chosen, console) as (fronts, models):
        first = next(iter(fronts))
        if NATIVE not in fronts:
            console.print(
                f"the native front was not built here (apt-get install {library.PACKAGES}, then make native): "
                f"{first} alone is measured", soft_wrap=True, highlight=False,
            )  # fmt: skip
        bench = Bench(
            fronts=fronts,
            generator=build(Path(folder)),
            models=models,
            folder=Path(folder),
            **asdict(effort),
        )
        for name, part in PARTS.items():
            if name in chosen:
                with console.status(f"measuring {name}"):
                    report.figures += part(bench)
                console.print(f"measured {name}", highlight=False)
        if "overload" in chosen:
            with console.status("measuring overload"):
                report.overloads += overload(bench)
    write_json(
        output / "serving.json",
        {
            "benchmark": "serving",
            "date": now(),
            "machine": describe_cpu(),
            "versions": tool_versions(),
            "effort": asdict(effort),
            "fronts": list(fronts),
            "int8": "onnxruntime",
            "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in report.figures],
            "overload": [asdict(point) for point in report.overloads],
        },
    )
    plot(report.figures, report.overloads, output / "serving.png", fronts=list(fronts))
    show(report.figures, report.overloads, console, fronts=list(fronts))
    console.print(f"written to {output}", soft_wrap=True, markup=False, highlight=False)
    return report


@contextmanager
def _servers(folder: Path, chosen: Sequence[str], console: Console) -> Iterator[tuple[dict[str, Target], Path]]:
    """Serve every variant of every model from one process for each front, all on the servers' core."""
    models = folder / "models"
    with console.status("exporting models"):
        write_empty_model(models, "empty")
        write_models(TINY, models, {"tiny": "", "tiny-off": OFF}, int8="tiny-int8")
        write_models(MEDIUM, models, {"medium": "", "medium-off": OFF, "medium-fifo": FIFO}, int8="medium-int8")
        if {"on-off", "overload"} & set(chosen):
            write_models(WIDE, models, {"wide": "", "wide-off": OFF})
    with ExitStack() as stack:
        yield {front: stack.enter_context(server_with(front, models)) for front in fronts_here()}, models


if __name__ == "__main__":
    sys.exit(main())
