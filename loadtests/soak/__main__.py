"""`python -m loadtests.soak`: serve a repository under mixed traffic for long, and judge what came of it.

The traffic is 70 % of the peak, with requests that are cancelled, malformed or given little time, while every model is
loaded again every half minute. Exit code 1 if a request was lost or ended as it must not.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tritonclient.grpc as triton
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tritonclient.utils import InferenceServerException

from loadtests.answers import served
from loadtests.soak.cases import Case, make_cases
from loadtests.soak.driving import Driver
from loadtests.soak.show import plot, show
from loadtests.soak.watching import Sample, memory_mib, slope_per_hour, take_sample
from training.local_server import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.7
PEAK_SECONDS = (5.0, 30.0)
"""The least and the most that the peak is measured for, and else a fortieth of the whole: a machine that is shared has
lucky moments, of which 70 % is more than it can do for long."""
SAMPLE_SECONDS = 1.0


@dataclass
class Reloads:
    """When every model had been loaded again, in seconds since the load began, and what went wrong instead."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the given arguments (default: the process's)."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    parser.add_argument("--model-repository", type=Path, required=True, metavar="DIR", help="what is served")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--reload-seconds", type=float, default=30.0, help="between two reloads (default: 30)")
    parser.add_argument("--output", type=Path, default=Path("benchmark-output"), metavar="DIR", help="of JSON and plot")
    chosen = parser.parse_args(arguments)
    console = Console()
    names = sorted(folder.name for folder in chosen.model_repository.iterdir() if folder.is_dir())
    flags = ["--model-control", "explicit", *(flag for name in names for flag in ("--load-model", name))]
    with _on_core(0), LocalServer(chosen.model_repository, *flags) as server, _on_core(-1):
        driver = Driver(server.address, _cases(server))
        try:
            report = _soak(server, driver, names, chosen.minutes * 60, chosen.reload_seconds, console)
        finally:
            driver.close()
    exit_code = server.process.returncode
    samples, figures, reloads = report
    show(driver.tally, figures, console)
    plot(samples, reloads.seconds, chosen.output / "soak.png")
    outcomes = {f"{kind}: {outcome}": count for (kind, outcome), count in sorted(driver.tally.ended.items())}
    content = {
        "figures": figures,
        "outcomes": outcomes,
        "reloads": asdict(reloads),
        "samples": [asdict(each) for each in samples],
    }
    (chosen.output / "soak.json").write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"Plot: {chosen.output / 'soak.png'}   Figures: {chosen.output / 'soak.json'}")
    lost, wrong = driver.tally.lost, driver.tally.wrong
    for failure in reloads.failures:
        console.print(failure, style="red")
    failed = bool(lost or wrong or reloads.failures or exit_code)
    console.print(
        f"{driver.tally.sent.total():,} requests, {lost} lost, {wrong} wrong, {len(reloads.seconds)} reloads, "
        f"{len(reloads.failures)} failed, server's exit code {exit_code}",
        style="bold red" if failed else "bold green",
    )
    return int(failed)


def _cases(server: LocalServer) -> list[Case]:
    with triton.InferenceServerClient(server.address) as client:
        return make_cases(client, served(server.metrics_url))


def _soak(  # noqa: PLR0913, PLR0917
    server: LocalServer,
    driver: Driver,
    names: Sequence[str],
    seconds: float,
    reload_seconds: float,
    console: Console,
) -> tuple[list[Sample], dict[str, float], Reloads]:
    least, most = PEAK_SECONDS
    peak = driver.peak(min(most, max(least, seconds / 40)))
    rate = SHARE * peak
    console.print(
        f"peak {peak:,.0f} requests/s ({len(names)} models, one core); {rate:,.0f} for {seconds / 60:g} minutes"
    )
    driver.tally.take_latencies()
    stop = threading.Event()
    sender = threading.Thread(target=driver.drive, args=(rate, stop))
    reloads = Reloads()
    samples: list[Sample] = []
    before = memory_mib(server.process.pid)
    began = time.monotonic()
    reloader = threading.Thread(target=_reload, args=(server.address, names, reload_seconds, began, stop, reloads))
    sender.start()
    reloader.start()
    try:
        with _progress(console) as progress:
            bar = progress.add_task("soak", total=seconds)
            last = began
            while (now := time.monotonic()) - began < seconds:
                stop.wait(max(0.0, last + SAMPLE_SECONDS - now))
                now = time.monotonic()
                samples.append(take_sample(server.process.pid, now - began, driver.tally.take_latencies(), now - last))
                last = now
                progress.update(bar, completed=now - began, description=_summary(samples[-1], driver))
    finally:
        stop.set()
        sender.join()
        reloader.join()
        driver.drain()
    quarter = max(1, len(samples) // 4)
    first, final = (
        sum(sample.answered_per_second for sample in part) / len(part)
        for part in (samples[:quarter], samples[-quarter:])
    )
    after = memory_mib(server.process.pid)
    figures = {
        "peak, requests/s": peak,
        "offered, requests/s": rate,
        "answers/s, first quarter": first,
        "answers/s, last quarter over first": final / first,
        "resident at the start, MiB": before["Rss"],
        "resident at the end, MiB": after["Rss"],
        "heap and stacks at the end, MiB": after["Anonymous"],
        "private and written at the end, MiB": after["Private_Dirty"],
        "resident, MiB per hour (second half)": slope_per_hour(samples, "rss_mib"),
        "heap and stacks, MiB per hour (second half)": slope_per_hour(samples, "anonymous_mib"),
        "answers/s, per hour (second half)": slope_per_hour(samples, "answered_per_second"),
        "threads at the end": samples[-1].threads,
        "file descriptors at the end": samples[-1].descriptors,
    }
    return samples, figures, reloads


def _reload(  # noqa: PLR0913, PLR0917
    address: str, names: Sequence[str], pause: float, began: float, stop: threading.Event, turns: Reloads
) -> None:
    """Have one model after the other loaded again, time after time."""
    with triton.InferenceServerClient(address) as admin:
        while not stop.wait(pause):
            try:
                for name in names:
                    admin.load_model(name)
            except InferenceServerException as error:
                turns.failures.append(str(error))
            else:
                turns.seconds.append(time.monotonic() - began)


def _summary(sample: Sample, driver: Driver) -> str:
    return (
        f"{sample.answered_per_second:5.0f}/s, p99 {1000 * sample.p99:5.1f} ms, {sample.rss_mib:5.0f} MiB, "
        f"{driver.tally.wrong} wrong"
    )


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console)


@contextmanager
def _on_core(index: int) -> "Iterator[None]":
    """Keep this thread, and the threads and processes that it starts, to one of the cores it may use."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CORES[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


_CORES = sorted(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
