"""`python -m loadtests.simulate`: how to balance and how to scale, by simulation with measured costs.

Without --full it is short enough to be tried out; docs/scale.md has what --full gave.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from export.job import now
from loadtests.simulate.costs import MEASURED, Measured
from loadtests.simulate.experiments import Answer, answers
from loadtests.simulate.limits import Cluster, figures
from loadtests.simulate.questions import FRONTS, FULL, QUICK, Case, cases
from loadtests.simulate.scenario_file import read_scenario
from loadtests.simulate.show import plot, plot_run, show
from training.files import write_json

WIDTH = 120
"""Columns that the tables need."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print, and write `simulate.json` and plots; exit code 1 if there is nothing that could be simulated."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.simulate", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="of JSON and plots"
    )
    parser.add_argument("--costs", type=Path, default=MEASURED, metavar="FILE", help="measured by the calibration")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--only", default="", metavar="WORD", help="questions that begin so")
    asked.add_argument("--scenario", type=Path, metavar="FILE", help="one fleet instead, described in YAML")
    parser.add_argument("--full", action="store_true", help="larger fleets, for longer")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="at a time")
    given = parser.parse_args(arguments)
    if given.processes < 1:
        parser.error(f"--processes is {given.processes}, expected at least 1")
    if given.full and given.scenario:
        parser.error("--full: not allowed with --scenario, whose file says how large it is")
    try:
        measured = Measured.read(given.costs)
        if given.scenario:
            chosen = [Case(str(given.scenario), "as described", read_scenario(given.scenario, measured))]
        else:
            every = cases(measured, FULL if given.full else QUICK)
            chosen = [case for case in every if case.question.startswith(given.only)]
    except ValueError as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    if not chosen:
        parser.error(f"--only {given.only}: no question begins so")
    given.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.width = max(console.width, WIDTH)
    answered = _run(chosen, given.processes, console)
    limits = [] if given.scenario else figures(Cluster(), measured.servers[FRONTS])
    show(answered, limits, console)
    plots = [plot_run(answered[0], given.output)] if given.scenario else plot(answered, given.output)
    write_json(
        given.output / "simulate.json",
        {
            "benchmark": "simulate",
            "date": now(),
            "costs": measured.model_dump(),
            "answers": [asdict(each) for each in answered],
            "limits": [asdict(each) for each in limits],
        },
    )
    console.print(f"Plots: {', '.join(map(str, plots))}", soft_wrap=True, highlight=False)
    return 0


def _run(chosen: Sequence[Case], processes: int, console: Console) -> list[Answer]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        return list(progress.track(answers(chosen, processes=processes), len(chosen), description="simulating"))


if __name__ == "__main__":
    sys.exit(main())
