"""INT8 against FP32 on this machine: `python -m loadtests.benchmarks.int8 [--output DIR] [--quick]`.

Random LSTMs of two layers, hidden 64 to 1024, on seeded noise: bytes, time of a run on one thread with both precisions
taking turns, and error. Then two classifiers trained on real data: accuracy on held-out rows. Every figure is a ratio
within this run; only timings differ between runs.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from export.artefact import tool_versions
from export.errors import ExportError
from export.job import now
from export.proving.latency import describe_cpu
from loadtests.benchmarks.int8_checks import Check, check_random, check_trained
from loadtests.benchmarks.int8_measuring import Effort, RandomModel, TrainedModel, measure_random, measure_trained
from loadtests.benchmarks.int8_models import FEATURES, SEED, Size
from loadtests.benchmarks.int8_show import plot, show
from training.errors import TrainingError
from training.files import write_json

SIZES = (*(Size(hidden=hidden) for hidden in (64, 256, 512, 1024)), Size(hidden=256, bidirectional=True))
EFFORT = Effort(rounds=60, budget_seconds=15.0, error_rows=32)
QUICK_SIZES = SIZES[:2]
QUICK_EFFORT = Effort(rounds=3, budget_seconds=1.0, error_rows=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 0 whatever was measured, 1 if it could not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmarks.int8", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="folder for JSON and plot"
    )
    parser.add_argument("--quick", action="store_true", help="two sizes, few repeats, no training: to try it out")
    given = parser.parse_args(arguments)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {given.output}: cannot be made a folder ({error.strerror}); name a new or existing one")
    try:
        run(given.output, quick=given.quick, console=Console())
    except (ExportError, TrainingError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


def run(output: Path, *, quick: bool, console: Console) -> list[Check]:
    """Measure, print, and write `int8.json` and `int8.png` into the folder `output`, which must exist.

    Raises:
        ExportError: a model cannot be exported or quantized.
        TrainingError: a training diverged.
    """
    effort = QUICK_EFFORT if quick else EFFORT
    random = []
    for size in QUICK_SIZES if quick else SIZES:
        with console.status(f"measuring {size.name}"):
            random.append(measure_random(size, effort))
        console.print(f"measured {size.name}", highlight=False)
    trained = [] if quick else measure_trained(console)
    checks = [*check_random(random), *check_trained(trained)]
    write_json(output / "int8.json", _record(random, trained, checks, effort))
    plot(checks, output / "int8.png")
    show(checks, console)
    console.print(f"written to {output}", soft_wrap=True, markup=False, highlight=False)
    return checks


def _record(
    random: Sequence[RandomModel], trained: Sequence[TrainedModel], checks: Sequence[Check], effort: Effort
) -> dict[str, Any]:
    """Return all that was measured, and on what, as plain JSON values."""
    return {
        "benchmark": "int8",
        "date": now(),
        "machine": describe_cpu(),
        "threads": 1,
        "versions": tool_versions(),
        "effort": asdict(effort),
        "data": f"random models: {FEATURES} features of normal noise, weights of seed {SEED}; trained: held-out rows",
        "random_models": [asdict(model) for model in random],
        "trained_models": [asdict(model) for model in trained],
        "checks": [{**asdict(check), "verdict": check.verdict, "straddled": check.straddled} for check in checks],
    }


if __name__ == "__main__":
    sys.exit(main())
