"""What the batcher's own Python costs: `python -m loadtests.benchmarks.batcher [--quick]`.

A batcher is driven as the runner does it, in virtual time and without an engine: tickets of one row of 10 to 200 steps
are admitted one by one, a poll makes a batch, the batch is finished and learned from. Figures are microseconds of CPU,
of the turn that took the least of them: other programs only ever add to it.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from export.proving.latency import describe_cpu
from loadtests.benchmarks.batcher_driving import KINDS, Costs, Workload, drive

LIVE = (64, 1_000, 10_000)
WORKLOADS = (
    *(Workload(policy=policy, live=live) for policy in ("stepwise", "whole", "equal") for live in LIVE),
    *(Workload(policy="stepwise", live=live, deadlines="met") for live in LIVE),
    *(Workload(policy=policy, live=live, deadlines="overload") for policy in ("stepwise", "whole") for live in LIVE),
    *(Workload(policy="stepwise", live=live, cancelled=0.25) for live in LIVE),
)
TICKETS, TURNS = 5_000, 5
QUICK_TICKETS, QUICK_TURNS = 100, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every workload and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmarks.batcher", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few tickets of each workload: to try it out")
    given = parser.parse_args(arguments)
    tickets, turns = (QUICK_TICKETS, QUICK_TURNS) if given.quick else (TICKETS, TURNS)
    console = Console()
    measured = [
        (workload, lowest([drive(workload, tickets) for _ in range(turns)]))
        for workload in track(WORKLOADS, description="measuring", console=console, transient=True)
    ]
    console.print(table(measured))
    console.print("admit per ticket that comes, cancel per ticket cancelled, all else per ticket that leaves")
    console.print(f"{describe_cpu()}; Python {sys.version.split()[0]}; the best of {turns} turns", highlight=False)
    return 0


def lowest(turns: Sequence[Costs]) -> Costs:
    """Return the turn that took the least time in all: turns of one workload differ in nothing but time."""
    return min(turns, key=lambda turn: turn.total_us)


def table(measured: Sequence[tuple[Workload, Costs]]) -> Table:
    """Return a line per workload: the share refused, rows per engine call, and microseconds of each kind of call."""
    names = ("refused", "rows", *KINDS, "in all")
    numbers = (Column(name, justify="right", no_wrap=True) for name in names)
    shown = Table("policy, live", *numbers, title="The batcher, microseconds per ticket", box=SIMPLE)
    for workload, costs in measured:
        shown.add_row(
            workload.name,
            f"{costs.refused_share:.0%}",
            f"{costs.rows_per_call:.0f}",
            *("-" if each is None else f"{each:.1f}" for each in costs.microseconds),
            f"{costs.total_us:.1f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
