"""The native INT8 engine against onnxruntime: `python -m loadtests.benchmarks.native [--output DIR] [--quick]`.

LSTMs of two layers, hidden 64 to 1024, and a GRU of 256, random weights, sequences of 60 steps of 64 features: time of
a run on one thread, all forms taking turns; the share of what the bare tile of integer products reaches; the error; and
that answers are the same to the bit in other company, on two threads and in chunks. Ratios are within this run.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from export.artefact import tool_versions
from export.job import now
from export.proving.latency import describe_cpu
from loadtests.benchmarks.int8_checks import Check
from loadtests.benchmarks.int8_models import FEATURES, SEED
from loadtests.benchmarks.native_measuring import TILE_HIDDEN, Measured, Point, measure
from loadtests.benchmarks.native_models import STEPS, Batch, Stack
from loadtests.benchmarks.native_show import plot, sheets, show, summary, write_markdown
from serving.engine.native.library import instruction_sets
from serving.errors import ArtifactError, EngineUnavailable
from training.files import write_json

SIZES, SECONDS = (64, 256, 512, 1024), 10.0
QUICK_SIZES, QUICK_SECONDS = (64,), 0.1
GRU = Stack(operator="GRU", hidden=256)
INT8_TARGET, GRU_TARGET, MIXED_TARGET, TILE_TARGET, RMS_TARGET = 1.3, 2.0, 2.2, 0.70, 1.0
FP32_TARGETS = {1: 2.5, 32: 2.0}
"""By rows, from `TILE_HIDDEN` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeast(Check):
    """A figure that should be as large as its target, or larger."""

    @property
    def verdict(self) -> Literal["met", "missed", "no target"]:
        """Whether the target was met; the median decides."""
        if self.target is None:
            return "no target"
        return "met" if self.measured >= self.target else "missed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 0 whatever times were measured, 1 if answers differ or it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmarks.native", description=__doc__)
    parser.add_argument("--output", type=_folder, default="benchmark-output", metavar="DIR", help="for all files")
    parser.add_argument("--quick", action="store_true", help="one LSTM, a moment for each batch: to try it out")
    parser.add_argument("--sizes", type=_sizes, metavar="H,H", help="hidden sizes of the LSTMs (64,256,512,1024)")
    parser.add_argument("--seconds", type=float, help="of turns on each batch, three turns at least (10)")
    given = parser.parse_args(arguments)
    sizes, seconds = (QUICK_SIZES, QUICK_SECONDS) if given.quick else (SIZES, SECONDS)
    errors = Console(stderr=True)
    try:
        models = run(given.output, given.sizes or sizes, seconds if given.seconds is None else given.seconds, Console())
    except (ArtifactError, EngineUnavailable) as error:
        errors.print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    return exit_code(models, errors)


def exit_code(models: Sequence[Measured], console: Console) -> int:
    """Print what gave different answers; return 1 if anything did, else 0."""
    found = [(model, same) for model in models for same in model.sameness if same.differences]
    for model, same in found:
        text = f"{model.stack.name}, {same.what}: {same.differences:,} of {same.values:,} values differ"
        console.print(text, markup=False, soft_wrap=True)
    return 1 if found else 0


def run(output: Path, sizes: Sequence[int], seconds: float, console: Console) -> list[Measured]:
    """Measure, print, and write `native.json`, `native.md` and `native.png` into the folder `output`, which must exist.

    Args:
        output: the folder.
        sizes: of the LSTMs, hidden units; the GRU is measured as well.
        seconds: of turns on each batch.
        console: for progress and tables.

    Raises:
        ArtifactError: onnxruntime cannot load or run a form.
        EngineUnavailable: the native library was not built.
    """
    models = []
    for stack in (*(Stack(hidden=hidden) for hidden in sizes), GRU):
        with console.status(f"measuring {stack.name}"):
            models.append(measure(stack, seconds))
        console.print(f"measured {stack.name}", highlight=False)
    checks = [check for model in models for check in judge(model)]
    tables = sheets(models, checks)
    machine = f"{describe_cpu()}; native kernels: {models[0].instruction_set} (of {', '.join(instruction_sets())})"
    write_json(output / "native.json", _record(models, checks, seconds))
    write_markdown(tables, machine, summary(checks), output / "native.md")
    plot(models, output / "native.png")
    show(tables, console)
    for line in (machine, summary(checks), f"written to {output}"):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return models


def judge(model: Measured) -> list[AtLeast]:
    """Return what was measured of a stack against what was asked for."""
    checks = [check for point in model.points for check in _speed_checks(model.stack, point)]
    if "int8" in model.rms:
        int8, native = model.rms["int8"], model.rms["native"]
        checks.append(
            AtLeast(
                model=model.stack.name,
                measure="RMS error, INT8 over native",
                measured=int8 / native,
                target=RMS_TARGET,
                why=f"{int8:.4f} and {native:.4f}",
            )
        )
    return checks


def _speed_checks(stack: Stack, point: Point) -> list[AtLeast]:
    checks = []
    for over, target in _speed_targets(stack, point.batch).items():
        spread = point.speedup(over)
        assert spread is not None
        checks.append(
            AtLeast(
                model=stack.name,
                measure=f"batch {point.batch.name}, over {over.upper()}",
                measured=spread.median,
                target=target,
                spread=spread,
                why=f"{point.milliseconds(over):.2f} to {point.milliseconds('native'):.2f} ms",
            )
        )
    if stack.operator == "LSTM" and point.tile_rate is not None and point.tile_share is not None:
        checks.append(
            AtLeast(
                model=stack.name,
                measure=f"batch {point.batch.name}, of the tile's peak",
                measured=point.tile_share.median,
                target=TILE_TARGET,
                spread=point.tile_share,
                why=f"{point.rate.median * 1e-9:.0f} of {point.tile_rate.median * 1e-9:.0f} GMAC/s",
            )
        )
    return checks


def _speed_targets(stack: Stack, batch: Batch) -> dict[str, float]:
    """Return how many times faster than which form of onnxruntime a batch should run; it has no INT8 form of a GRU."""
    if stack.operator == "GRU":
        return {} if batch.mixed else {"fp32": GRU_TARGET}
    if batch.mixed:
        return {"int8": MIXED_TARGET}
    large = stack.hidden >= TILE_HIDDEN and batch.rows in FP32_TARGETS
    return {"int8": INT8_TARGET} | ({"fp32": FP32_TARGETS[batch.rows]} if large else {})


def _record(models: Sequence[Measured], checks: Sequence[Check], seconds: float) -> dict[str, Any]:
    """Return all that was measured, every turn of it, and on what, as plain JSON values."""
    return {
        "benchmark": "native",
        "date": now(),
        "machine": describe_cpu(),
        "instruction_set": models[0].instruction_set,
        "instruction_sets": instruction_sets(),
        "threads": 1,
        "versions": tool_versions(),
        "seconds_of_turns": seconds,
        "data": f"{STEPS} steps of {FEATURES} features of normal noise, weights and noise of seed {SEED}",
        "models": [_model_record(model) for model in models],
        "checks": [{**asdict(check), "verdict": check.verdict, "straddled": check.straddled} for check in checks],
    }


def _model_record(model: Measured) -> dict[str, Any]:
    return {
        "name": model.stack.name,
        **asdict(model.stack),
        "rms": dict(model.rms),
        "sameness": [asdict(same) for same in model.sameness],
        "points": [
            {
                **asdict(point.batch),
                "multiply_adds": point.multiply_adds,
                "tile_multiply_adds": point.tile_multiply_adds,
                "seconds": {form: [round(turn, 9) for turn in turns.tolist()] for form, turns in point.seconds.items()},
            }
            for point in model.points
        ],
    }


def _folder(text: str) -> Path:
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{path} cannot be made a folder ({error.strerror}); name a new or existing one"
        ) from error
    return path


def _sizes(text: str) -> tuple[int, ...]:
    names = text.split(",")
    if not all(name.isdecimal() and int(name) for name in names):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of sizes; expected numbers above zero, such as 64,256")
    return tuple(int(name) for name in names)


if __name__ == "__main__":
    sys.exit(main())
