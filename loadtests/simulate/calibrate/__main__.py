"""`python -m loadtests.simulate.calibrate`: a real server against one simulated replica, under the same trace.

The server has one core, the load another. Turns measure what engine calls and the front take, then replay a Poisson
trace at several loads; medians of the turns are compared with those of the simulation. With --save, the measured
costs become those that `python -m loadtests.simulate` works with.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from export.errors import ExportError
from export.job import now
from export.proving.latency import describe_cpu
from loadtests.benchmarks.serving_measuring import CLIENT_CORE, SERVER_CORE
from loadtests.benchmarks.serving_models import MEDIUM, REQUESTS, TINY, WIDE, lengths_of, write_models
from loadtests.generator.program import build
from loadtests.simulate.calibrate.engine import EngineBench, cost_of
from loadtests.simulate.calibrate.measuring import Bench, Measurements, front_of
from loadtests.simulate.calibrate.replay import MEASURES, Trace, figures_of, poisson, simulated
from loadtests.simulate.calibrate.server import cost_of_server, server_of
from loadtests.simulate.calibrate.show import Comparison, plot, show
from loadtests.simulate.costs import MEASURED, Measured, ModelCost, ServerCost
from serving.policy import Policy
from training.files import write_json

SIZES = {"tiny": TINY, "medium": MEDIUM, "wide": WIDE}
LOADS = (0.4, 0.6, 0.8)
OVERLOADS = (1.5, 3.0)
"""Of the peak; in overload requests have deadlines."""
DEADLINES = 3.0
"""Of a request in overload, over what the median one takes at the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds of each stretch of load, and how often everything is measured."""

    seconds: float
    turns: int


FULL = Effort(seconds=5.0, turns=5)
QUICK = Effort(seconds=0.6, turns=1)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One model."""

    cost: ModelCost
    server: ServerCost
    comparisons: list[Comparison]
    slower: float
    front: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and compare; exit code 0 whatever was measured, 1 if it could not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.simulate.calibrate", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="of JSON and plot")
    parser.add_argument("--models", default="medium,wide", metavar="NAMES", help=f"some of {','.join(SIZES)}")
    parser.add_argument("--save", action="store_true", help="let simulations work with the costs measured here")
    parser.add_argument("--quick", action="store_true", help="half a second for everything: to try it out")
    given = parser.parse_args(arguments)
    chosen = given.models.split(",")
    if unknown := sorted(set(chosen) - set(SIZES)):
        parser.error(f"--models: unknown {unknown}; there are {list(SIZES)}")
    if len(os.sched_getaffinity(0)) <= max(SERVER_CORE, CLIENT_CORE):
        parser.error("two cores are needed: one for the server, one for the load")
    given.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    try:
        calibrated = {name: _calibrate(name, QUICK if given.quick else FULL, console) for name in chosen}
    except (ExportError, RuntimeError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    _write(calibrated, given.output, save=given.save)
    for name, each in calibrated.items():
        show(name, each.comparisons, console)
    plot({name: each.comparisons for name, each in calibrated.items()}, given.output / "calibration.png")
    console.print(f"written to {given.output}", soft_wrap=True, markup=False, highlight=False)
    return 0


def _calibrate(name: str, effort: Effort, console: Console) -> Calibrated:
    size = SIZES[name]
    lengths = lengths_of(REQUESTS, outliers=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = folder / "models"
        with console.status(f"exporting {name}"):
            write_models(size, models, {name: ""})
        with server_of(models) as (target, start_seconds):
            bench = Bench(
                target=target,
                engine=EngineBench(models / name / "1", features=size.features),
                generator=build(folder),
                folder=folder,
                model=name,
                size=size,
                lengths=lengths,
                seconds=effort.seconds,
            )
            server = cost_of_server(target, start_seconds=start_seconds, model=name)
            traces = _traces(bench.turn([]), lengths, effort.seconds)  # warms up; its peak sets the loads
            with Progress(console=console) as progress:
                turns = progress.track(range(effort.turns), description=f"measuring {name}")
                measured = [bench.turn(traces) for _ in turns]
    return _compare(measured, traces, server)


def _traces(measured: Measurements, lengths: Sequence[int], seconds: float) -> list[Trace]:
    peak, half = measured.peak, measured.peaks[0].run.percentile(50)
    names = [(f"{load:.0%} of the peak", load, 0.0) for load in LOADS]
    names += [(f"{load:.0%}, with deadlines", load, DEADLINES * half) for load in OVERLOADS]
    return [
        poisson(name, load * peak, seconds, lengths, timeout=timeout, seed=number)
        for number, (name, load, timeout) in enumerate(names)
    ]


def _compare(turns: Sequence[Measurements], traces: Sequence[Trace], server: ServerCost) -> Calibrated:
    """Simulate each turn with the costs of that turn: a machine that drifts is no error of the simulation's."""
    lengths, policy = traces[0].lengths, Policy.model_validate({})
    costs = [turn.cost(lengths, start=server.start) for turn in turns]
    comparisons = []
    for trace in traces:
        real = [figures_of(turn.replays[trace.name][0].run, trace) for turn in turns]
        told = [simulated(cost, policy, trace, stepwise=True) for cost in costs]
        comparisons += [
            Comparison(
                load=trace.name,
                measure=measure,
                real=[figures[measure] for figures in real],
                simulated=[figures[measure] for figures in told],
            )
            for measure in MEASURES
        ]
    every = Measurements.of(turns)
    stretches = {"peak": every.peaks, "alone": every.alone, "refused": every.refused, **every.replays}
    cost = every.cost(lengths, start=server.start)
    slower = cost.engine.seconds(1, 1) / cost_of(every.calls).seconds(1, 1)
    return Calibrated(cost, server, comparisons, slower, {name: front_of(each) for name, each in stretches.items()})


def _write(calibrated: dict[str, Calibrated], output: Path, *, save: bool) -> None:
    content: dict[str, Any] = {
        "benchmark": "simulate.calibrate",
        "date": now(),
        "machine": describe_cpu(),
        "models": {
            name: {
                "cost": each.cost.model_dump(),
                "server": each.server.model_dump(),
                "front, CPU seconds per request": each.front,
                "engine calls in the server over those in a process of their own": each.slower,
                "comparisons": [asdict(line) | {"deviation": line.deviation} for line in each.comparisons],
            }
            for name, each in calibrated.items()
        },
    }
    write_json(output / "calibration.json", content)
    if save:
        costs = {name: each.cost for name, each in calibrated.items()}
        servers = {name: each.server for name, each in calibrated.items()}
        with suppress(ValueError):  # none so far, or of an earlier form: then these are all
            known = Measured.read(MEASURED)
            costs, servers = known.models | costs, known.servers | servers
        measured = Measured(machine=content["machine"], date=content["date"], models=costs, servers=servers)
        write_json(MEASURED, measured.model_dump())


if __name__ == "__main__":
    sys.exit(main())
