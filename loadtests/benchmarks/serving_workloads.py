"""What is asked of the server, and what of it counts."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from loadtests.benchmarks.serving_engine import best_batch, engine_seconds
from loadtests.benchmarks.serving_figures import MILLISECONDS, Figure, figure, latencies
from loadtests.benchmarks.serving_measuring import SERVER_CORE, Job, Run, Target, floor, load
from loadtests.benchmarks.serving_models import (
    MEDIUM,
    OUTLIER_STEPS,
    REQUESTS,
    TINY,
    WIDE,
    Size,
    canned_answer,
    lengths_of,
    write_requests,
)

CALLERS = 64
TINY_STEPS, MEDIUM_STEPS, WIDE_STEPS = 60, 100, 20
SHORT_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how long to measure."""

    server: Target
    generator: Path
    models: Path
    folder: Path
    seconds: float
    engine_seconds: float
    repeats: int
    best_batches: dict[Path, int] = field(default_factory=dict)

    def file_of(self, model: str) -> Path:
        """Return a model's ONNX file."""
        return self.models / model / "1" / "model.onnx"

    def turns(self, variants: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
        """Run the variants one after the other, again and again; the first round warms up and is dropped."""
        return self.turns_and_limits(variants, lambda: 0.0)[0]

    def turns_and_limits(
        self, variants: dict[str, Callable[[], Run]], limit: Callable[[], float]
    ) -> tuple[dict[str, list[Run]], list[float]]:
        """Do the same, and measure the engine's limit in every round: the machine is not always equally fast."""
        runs: dict[str, list[Run]] = {name: [] for name in variants}
        limits = []
        for turn in range(self.repeats + 1):
            for name, run in variants.items():
                measured = run()
                if turn:
                    runs[name].append(measured)
            if turn:
                limits.append(limit())
        return runs, limits

    def closed(  # noqa: PLR0913  a sentence of keywords
        self,
        model: str,
        size: Size,
        lengths: Sequence[int],
        *,
        callers: int = CALLERS,
        stream: bool = False,
        target: Target | None = None,
    ) -> Callable[[], Run]:
        """Return a turn of so many callers that each send their next request when answered."""
        job = Job(messages=self.messages(model, size, lengths), seconds=self.seconds, callers=callers, stream=stream)
        return lambda: self.load(job, model, target=target)

    def messages(self, model: str, size: Size, lengths: Sequence[int]) -> Path:
        """Return a file of requests of these lengths."""
        messages = self.folder / f"{model}-{len(lengths)}-{sum(lengths)}.messages"
        if not messages.exists():
            write_requests(messages, model, size, lengths)
        return messages

    def load(self, job: Job, model: str, *, target: Target | None = None) -> Run:
        """Send requests for a model to the server, or to another one."""
        return load(target or self.server, job, self.generator, self.folder, model=model)

    def limit(self, model: str, size: Size, steps: int) -> float:
        """Return the steps per second of onnxruntime alone, on the server's core, at its best batch.

        The mean over as long as the server is measured: the best of several short looks would be one at a lucky moment,
        on a machine that others share.
        """
        file, features = self.file_of(model), size.features
        with on_core(SERVER_CORE):
            if file not in self.best_batches:
                self.best_batches[file] = best_batch(file, features=features, steps=steps, seconds=self.engine_seconds)
            rows = self.best_batches[file]
            return (
                rows
                * steps
                / float(np.mean(engine_seconds(file, features=features, rows=rows, steps=steps, seconds=self.seconds)))
            )


def tiny(bench: Bench) -> list[Figure]:
    """W1: a model so small that the wire is most of it."""
    lengths = [TINY_STEPS] * REQUESTS
    answer = bench.folder / "tiny.answer"
    answer.write_bytes(canned_answer(TINY))
    ways = {"unary": False, "stream": True}
    with floor("threads", answer) as threads, floor("completions", answer) as ours, floor("asyncio", answer) as loop:
        targets = {"": None, " floor, threads": threads, " floor, ours": ours, " floor, asyncio": loop}
        variants = {
            way + kind: bench.closed("tiny", TINY, lengths, stream=stream, target=target)
            for way, stream in ways.items()
            for kind, target in targets.items()
        }
        runs, limits = bench.turns_and_limits(variants, lambda: bench.limit("tiny", TINY, TINY_STEPS))
    engine = [TINY_STEPS / limit for limit in limits]
    figures = []
    for way in ways:
        name = f"W1 {way}"
        figures += latencies(name, runs[way])
        rates = [run.rate * seconds for run, seconds in zip(runs[way], engine, strict=True)]
        figures.append(figure(name, "requests/s over engine limit", rates))
        for kind, words in ((" floor, threads", "grpcio's empty server"), (" floor, ours", "our empty front")):
            ratios = [
                mine.cpu_per_request / (empty.cpu_per_request + seconds)
                for mine, empty, seconds in zip(runs[way], runs[way + kind], engine, strict=True)
            ]
            figures.append(figure(name, f"CPU over ({words} + engine)", ratios, target=1.2, at_least=False))
    floors = [name for name in runs if "floor" in name]
    cpu = {name: [run.cpu_per_request * 1e6 for run in runs[name]] for name in floors}
    figures += [figure(f"W1 {name}", "CPU per request, us", values) for name, values in cpu.items()]
    figures.append(figure("W1 engine", "CPU per request, us", [seconds * 1e6 for seconds in engine]))
    return figures


def steady(bench: Bench) -> list[Figure]:
    """W2: a model of the usual size, sequences of one length, in FP32 and INT8."""
    lengths = [MEDIUM_STEPS] * REQUESTS
    figures = []
    for name, model, target in (("W2 FP32", "medium", 0.80), ("W2 INT8", "medium-int8", 0.75)):
        turn = {model: bench.closed(model, MEDIUM, lengths)}
        runs, limits = bench.turns_and_limits(turn, partial(bench.limit, model, MEDIUM, MEDIUM_STEPS))
        ratios = [run.rate * MEDIUM_STEPS / limit for run, limit in zip(runs[model], limits, strict=True)]
        figures.append(figure(name, "requests/s over engine limit", ratios, target=target))
        figures += latencies(name, runs[model])
    return figures


def mixed_lengths(bench: Bench) -> list[Figure]:
    """W3: lengths as they come in life, against arrival order and padding on the same server."""
    lengths = lengths_of(REQUESTS, outliers=False)
    runs, limits = bench.turns_and_limits(
        {name: bench.closed(name, MEDIUM, lengths) for name in ("medium", "medium-fifo")},
        lambda: bench.limit("medium", MEDIUM, MEDIUM_STEPS),
    )
    ours, fifo = ([run.steps_rate(lengths) for run in runs[name]] for name in ("medium", "medium-fifo"))
    gains = [mine / theirs for mine, theirs in zip(ours, fifo, strict=True)]
    shares = [rate / limit for rate, limit in zip(ours, limits, strict=True)]
    return [
        figure("W3", "real steps/s over FIFO and padding", gains, target=1.7),
        figure("W3", "real steps/s over engine limit without padding", shares, target=0.70),
        *latencies("W3", runs["medium"]),
        *latencies("W3 FIFO and padding", runs["medium-fifo"]),
    ]


def outliers(bench: Bench) -> list[Figure]:
    """W4: the same with one sequence in twenty of 2,000 steps: do the short ones suffer?"""
    plain, mixed = (lengths_of(REQUESTS, outliers=each) for each in (False, True))
    runs = bench.turns({"plain": bench.closed("medium", MEDIUM, plain), "mixed": bench.closed("medium", MEDIUM, mixed)})
    short = {
        name: [run.percentile(99, among=np.array(lengths)[run.index] < SHORT_STEPS) for run in runs[name]]
        for name, lengths in (("plain", plain), ("mixed", mixed))
    }
    ratios = [mine / theirs for mine, theirs in zip(short["mixed"], short["plain"], strict=True)]
    long = [run.percentile(99, among=np.array(mixed)[run.index] == OUTLIER_STEPS) for run in runs["mixed"]]
    return [
        figure("W4", "p99 of short requests over theirs without long ones", ratios, target=2.0, at_least=False),
        figure("W4", "p99 of short requests, ms", [each * MILLISECONDS for each in short["mixed"]]),
        figure("W4", "p99 of long requests, ms", [each * MILLISECONDS for each in long]),
    ]


def on_and_off(bench: Bench) -> list[Figure]:
    """What batching gains: the same model, one row per engine call."""
    figures = []
    for model, size, steps in (
        ("tiny", TINY, TINY_STEPS),
        ("medium", MEDIUM, MEDIUM_STEPS),
        ("wide", WIDE, WIDE_STEPS),
    ):
        lengths = [steps] * REQUESTS
        runs = bench.turns({name: bench.closed(name, size, lengths) for name in (model, f"{model}-off")})
        gains = [on.rate / off.rate for on, off in zip(runs[model], runs[f"{model}-off"], strict=True)]
        figures.append(figure(f"batching, {size.hidden} wide", "requests/s on over off", gains))
    return figures


def idle_server(bench: Bench) -> list[Figure]:
    """One caller: what a call takes beside the engine and the transport.

    The transport is grpcio's server with the engine in its handler, so that caches are as cold after a call of the
    engine as they are here; an empty handler, called again and again, answers out of warm ones.
    """
    return [
        *_idle_server(bench, "one caller, 64 wide", "tiny", TINY, TINY_STEPS),
        *_idle_server(bench, "one caller, 256 wide", "medium", MEDIUM, MEDIUM_STEPS),
    ]


def _idle_server(bench: Bench, workload: str, model: str, size: Size, steps: int) -> list[Figure]:
    answer = bench.folder / f"{model}.answer"
    answer.write_bytes(canned_answer(size))
    lengths = [steps] * REQUESTS
    file = bench.file_of(model)
    parameters = [str(file), "1", str(steps), str(size.features)]
    with floor("threads", answer, model=parameters) as working, floor("threads", answer) as empty:
        targets = {"ours": None, "working": working, "empty": empty}
        runs = bench.turns(
            {name: bench.closed(model, size, lengths, callers=1, target=each) for name, each in targets.items()}
        )
    with on_core(SERVER_CORE):
        alone = engine_seconds(file, features=size.features, rows=1, steps=steps, seconds=bench.seconds)
    engine = float(np.median(alone)) * MILLISECONDS
    median = {name: [run.percentile(50) * MILLISECONDS for run in runs[name]] for name in targets}
    added = [ours - working for ours, working in zip(median["ours"], median["working"], strict=True)]
    warm = [ours - empty - engine for ours, empty in zip(median["ours"], median["empty"], strict=True)]
    return [
        figure(workload, "added to grpcio with the engine in its handler, ms", added, target=0.3, at_least=False),
        figure(workload, "added to grpcio's empty server and the engine, ms", warm),
        figure(workload, "p50, ms", median["ours"]),
        figure(workload, "p50 of grpcio with the engine in its handler, ms", median["working"]),
        figure(workload, "p50 of grpcio's empty server, ms", median["empty"]),
        figure(workload, "engine, ms", [engine]),
    ]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Stay on one core inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
