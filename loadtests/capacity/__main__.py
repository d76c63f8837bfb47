"""`python -m loadtests.capacity`: the highest open-loop rate that keeps the objectives, of each model.

The server has all cores but one, the load generator (in C, see `loadtests/generator`) has the last. Each rate is tried
several times by Poisson arrivals of a few seconds; the rate is doubled until the objectives are missed, and then halved
by ratios. Latencies count from when a request was due. Answers are not compared: that is what `loadtests.load` is for.
Of the objectives, `goodput_per_second` and `window_seconds` do not apply. Exit code 1 if a number is refused.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from loadtests.capacity.measuring import Bench, Effort, on_cores, threads_of, workplace
from loadtests.capacity.search import Found, Point, search
from loadtests.capacity.show import plot, show
from loadtests.generator.program import build
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.samples import make_samples
from loadtests.traffic.served import METRICS_PORT, ServedModel, look, read_target
from loadtests.traffic.slo import Objectives, read_objectives
from serving.status.target import Target
from training.local_server import LocalServer

SLO = Path(__file__).parents[1] / "slo.yaml"
LOOPBACK = ("127.0.0.1", "localhost")
FIRST_SHARE = 0.5
"""Of the peak, with which the search begins."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write; return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    console = Console()
    try:
        found, cores, objectives = _measure(given, console)
        given.output.mkdir(parents=True, exist_ok=True)
        _write(given.output / "capacity.json", found, cores, objectives)
        plot(found, objectives, given.output / "capacity.png")
    except (TrafficError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"{parser.prog}: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    show(found, cores, console)
    console.print(f"written to {given.output}", markup=False, highlight=False, soft_wrap=True)
    return int(any(each.refusal for each in found.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.capacity", description=__doc__)
    parser.add_argument("--host", help="a server on this machine, HOST:PORT, which has nothing else to do")
    parser.add_argument("--metrics-url", help=f"of that server (http://127.0.0.1:{METRICS_PORT}/metrics)")
    parser.add_argument(
        "--model-repository",
        type=Path,
        default=Path("demo-output/models"),
        metavar="DIR",
        help="what to serve without it",
    )
    parser.add_argument("--models", default="", metavar="NAMES", help="NAME or NAME/VERSION, by comma (all)")
    parser.add_argument("--slo", type=Path, default=SLO, metavar="FILE", help="objectives (loadtests/slo.yaml)")
    parser.add_argument("--lengths", help="distribution of steps, as in loadtests.load (the real sequences')")
    parser.add_argument("--data", type=Path, default=Path("demo-output/weights"), metavar="DIR", help="real sequences")
    parser.add_argument("--deadline", type=_from(0.001), default=1.0, help="of a request, in seconds (1)")
    parser.add_argument("--seconds", type=_from(0.2), default=4.0, help="of a run (4)")
    parser.add_argument("--warm-up", type=_from(0.0), default=1.0, help="seconds before them that do not count (1)")
    parser.add_argument("--repeats", type=int, default=3, choices=range(1, 10), metavar="N", help="runs of a rate (3)")
    parser.add_argument("--precision", type=_from(0.01), default=0.05, help="of the rate, as a ratio (0.05)")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and requests (0)")
    parser.add_argument("--output", type=Path, default=Path("capacity-output"), metavar="DIR", help="of JSON and plot")
    return parser


def _from(least: float) -> Any:  # noqa: ANN401  what argparse takes
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= 3600:
            raise argparse.ArgumentTypeError(f"{text}: expected a number from {least:g} to 3600")
        return value

    return number


def _measure(given: argparse.Namespace, console: Console) -> tuple[dict[str, Found], int | None, Objectives]:
    objectives = read_objectives(given.slo).model_copy(update={"goodput_per_second": 0.0, "window_seconds": None})
    effort = Effort(seconds=given.seconds, warm_up=given.warm_up, repeats=given.repeats, seed=given.seed)
    names = [name.strip() for name in given.models.split(",") if name.strip()]
    found: dict[str, Found] = {}
    with workplace() as folder:
        generator = build(folder)
        with _server(given) as (target, cores, core):
            for model in look(target, names, None):
                bench = Bench(
                    port=target.grpc_port,
                    generator=generator,
                    core=core,
                    folder=folder,
                    objectives=objectives,
                    deadline=given.deadline,
                    effort=effort,
                )
                found[model.name] = _search(bench, model, given, console)
    return found, cores, objectives


def _search(bench: Bench, model: ServedModel, given: argparse.Namespace, console: Console) -> Found:
    rng = np.random.default_rng(given.seed)
    samples = make_samples([model], data=given.data, lengths=given.lengths, traced=None, rng=rng)
    rng.shuffle(samples)
    bench.write(samples)
    with console.status(f"{model.name}: finding the peak") as status:
        first = FIRST_SHARE * bench.peak()

        def measure(rate: float) -> Point:
            status.update(f"{model.name}: {rate:.0f} requests/s")
            point = bench.point(rate)
            verdict = "the load generator's limit" if point.limited else point.missed or "kept"
            console.print(
                f"{model.name}: {rate:7.0f} requests/s, p99 {point.p99 * 1e3:7.1f} ms, {verdict}", highlight=False
            )
            return point

        return search(measure, first=first, precision=given.precision)


@contextmanager
def _server(given: argparse.Namespace) -> Iterator[tuple[Target, int | None, int | None]]:
    """Give the server, the cores that it computes on (None: not known), and the core for the generator (None: any)."""
    if given.host is not None:
        target = read_target(given.host)
        if target.host not in LOOPBACK:
            raise TrafficError(
                f"--host {given.host}: the load generator in C reaches this machine only; run it beside the server"
            )
        yield target, threads_of(given.metrics_url or target.metrics_url), None
        return
    if not given.model_repository.is_dir():
        raise TrafficError(
            f"{given.model_repository}: no such folder; `make demo` makes it, or name a --model-repository"
        )
    *servers, last = sorted(os.sched_getaffinity(0))
    with on_cores(set(servers) or {last}):
        server = LocalServer(given.model_repository)
    with server:
        core = last if servers else None
        yield read_target(server.address), len(os.sched_getaffinity(server.process.pid)), core


def _write(path: Path, found: dict[str, Found], cores: int | None, objectives: Objectives) -> None:
    content = {
        "cores": cores,
        "objectives": objectives.model_dump(exclude_none=True),
        "models": {
            model: {
                "requests_per_second": each.capacity,
                "requests_per_second_per_core": each.capacity / cores if each.capacity and cores else None,
                "refused": each.refusal or None,
                "points": [{key: _known(value) for key, value in asdict(point).items()} for point in each.points],
            }
            for model, each in found.items()
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _known(value: Any) -> Any:  # noqa: ANN401  a field of a point
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main())
