"""What is asked of the server, and what of it counts."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from loadtests.benchmarks.serving_client import Job
from loadtests.benchmarks.serving_measuring import (
    CLIENT_CORE,
    SERVER_CORE,
    Run,
    Target,
    engine_limit,
    engine_seconds,
    floor,
    load,
)
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
DEADLINES = 3.0
"""Of a request, over what the median one takes at the peak."""
OFFERED = (0.5, 1.0, 2.0, 5.0)
MILLISECONDS = 1e3

Verdict = Literal["met", "missed", "no target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, the median of the turns.

    Attributes:
        workload: what was asked.
        measure: what was measured, with its unit.
        value: of it.
        lowest: of the turns.
        highest: of the turns.
        target: to reach, None if it is told only.
        at_least: whether more is better.
    """

    workload: str
    measure: str
    value: float
    lowest: float
    highest: float
    target: float | None = None
    at_least: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the target was met."""
        if self.target is None:
            return "no target"
        return "met" if (self.value >= self.target) is self.at_least or self.value == self.target else "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What became of an offered load; rates are requests per second."""

    model: str
    offered_over_peak: float
    offered: float
    goodput: float
    goodput_over_peak: float
    refused: float
    p99_ms: float
    deadline_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how long to measure."""

    server: Target
    models: Path
    folder: Path
    seconds: float
    engine_seconds: float
    repeats: int

    def file_of(self, model: str) -> Path:
        """Return a model's ONNX file."""
        return self.models / model / "1" / "model.onnx"

    def turns(self, variants: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
        """Run the variants one after the other, again and again; the first round warms up and is dropped."""
        runs: dict[str, list[Run]] = {name: [] for name in variants}
        for turn in range(self.repeats + 1):
            for name, run in variants.items():
                measured = run()
                if turn:
                    runs[name].append(measured)
        return runs

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
        messages = self.folder / f"{model}-{len(lengths)}-{sum(lengths)}.messages"
        if not messages.exists():
            write_requests(messages, model, size, lengths)
        job = Job(
            address=(target or self.server).address,
            messages=str(messages),
            result=str(self.folder / "result.npz"),
            core=CLIENT_CORE,
            seconds=self.seconds,
            callers=callers,
            stream=stream,
        )
        return lambda: load(target or self.server, job, self.folder, model=model)

    def limit(self, model: str, size: Size, steps: int) -> float:
        """Return the steps per second of onnxruntime alone, on the server's core, at its best batch."""
        with on_core(SERVER_CORE):
            return engine_limit(self.file_of(model), size, steps, seconds=self.engine_seconds)[1]


def tiny(bench: Bench) -> list[Figure]:
    """W1: a model so small that the wire is most of it."""
    lengths = [TINY_STEPS] * REQUESTS
    limit = bench.limit("tiny", TINY, TINY_STEPS)
    answer = bench.folder / "tiny.answer"
    answer.write_bytes(canned_answer(TINY))
    with floor("threads", answer) as threads, floor("asyncio", answer) as loop:
        runs = bench.turns(
            {
                "unary": bench.closed("tiny", TINY, lengths),
                "stream": bench.closed("tiny", TINY, lengths, stream=True),
                "floor": bench.closed("tiny", TINY, lengths, target=threads),
                "stream floor": bench.closed("tiny", TINY, lengths, stream=True, target=threads),
                "asyncio floor": bench.closed("tiny", TINY, lengths, target=loop),
            }
        )
    engine = TINY_STEPS / limit
    figures = []
    for name in ("unary", "stream"):
        figures += _latencies(f"W1 {name}", runs[name])
        figures.append(_figure(f"W1 {name}", "requests/s over engine limit", [r.rate * engine for r in runs[name]]))
        transport = runs["floor" if name == "unary" else "stream floor"]
        figures.append(
            _figure(
                f"W1 {name}",
                "CPU over (transport + engine)",
                [
                    ours.cpu_per_request / (theirs.cpu_per_request + engine)
                    for ours, theirs in zip(runs[name], transport, strict=True)
                ],
                target=1.2,
                at_least=False,
            )
        )
    for name in ("floor", "stream floor", "asyncio floor"):
        figures.append(_figure(f"W1 {name}", "CPU per request, us", [r.cpu_per_request * 1e6 for r in runs[name]]))
    figures.append(_figure("W1 engine", "CPU per request, us", [engine * 1e6]))
    return figures


def steady(bench: Bench) -> list[Figure]:
    """W2: a model of the usual size, sequences of one length, in FP32 and INT8."""
    lengths = [MEDIUM_STEPS] * REQUESTS
    figures = []
    for model, target in (("medium", 0.80), ("medium-int8", 0.75)):
        limit = bench.limit(model, MEDIUM, MEDIUM_STEPS) / MEDIUM_STEPS
        runs = bench.turns({model: bench.closed(model, MEDIUM, lengths)})[model]
        name = "W2 INT8" if model.endswith("int8") else "W2 FP32"
        figures.append(_figure(name, "requests/s over engine limit", [r.rate / limit for r in runs], target=target))
        figures += _latencies(name, runs)
    return figures


def mixed_lengths(bench: Bench) -> list[Figure]:
    """W3: lengths as they come in life, against arrival order and padding on the same server."""
    lengths = lengths_of(REQUESTS, outliers=False)
    limit = bench.limit("medium", MEDIUM, MEDIUM_STEPS)
    runs = bench.turns({name: bench.closed(name, MEDIUM, lengths) for name in ("medium", "medium-fifo")})
    ours, fifo = ([run.steps_rate(lengths) for run in runs[name]] for name in ("medium", "medium-fifo"))
    gains = [mine / theirs for mine, theirs in zip(ours, fifo, strict=True)]
    return [
        _figure("W3", "real steps/s over FIFO and padding", gains, target=1.7),
        _figure("W3", "real steps/s over engine limit without padding", [rate / limit for rate in ours], target=0.70),
        *_latencies("W3", runs["medium"]),
        *_latencies("W3 FIFO and padding", runs["medium-fifo"]),
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
        _figure("W4", "p99 of short requests over theirs without long ones", ratios, target=2.0, at_least=False),
        _figure("W4", "p99 of short requests, ms", [each * MILLISECONDS for each in short["mixed"]]),
        _figure("W4", "p99 of long requests, ms", [each * MILLISECONDS for each in long]),
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
        figures.append(_figure(f"batching, {size.hidden} wide", "requests/s on over off", gains))
    return figures


def idle_server(bench: Bench) -> list[Figure]:
    """One caller: what a call takes beside the engine, against the transport's own."""
    answer = bench.folder / "idle.answer"
    answer.write_bytes(canned_answer(MEDIUM))
    lengths = [MEDIUM_STEPS] * REQUESTS
    with on_core(SERVER_CORE):
        engine = engine_seconds(bench.file_of("medium"), MEDIUM, 1, MEDIUM_STEPS, seconds=bench.engine_seconds)
    with floor("threads", answer) as transport:
        runs = bench.turns(
            {
                "ours": bench.closed("medium", MEDIUM, lengths, callers=1),
                "floor": bench.closed("medium", MEDIUM, lengths, callers=1, target=transport),
            }
        )
    added = [
        (ours.percentile(50) - engine - theirs.percentile(50)) * MILLISECONDS
        for ours, theirs in zip(runs["ours"], runs["floor"], strict=True)
    ]
    return [
        _figure("one caller", "added to engine and transport, ms", added, target=0.3, at_least=False),
        _figure("one caller", "transport, ms", [run.percentile(50) * MILLISECONDS for run in runs["floor"]]),
        _figure("one caller", "engine, ms", [engine * MILLISECONDS]),
    ]


def overload(bench: Bench) -> list[Overload]:
    """Requests with a deadline, at rates that do not care for the answers.

    For a model of the usual size, where refusing a request costs a good part of what answering it does, and for a wide
    one, where it costs next to nothing.
    """
    return [*_overload(bench, "medium", MEDIUM), *_overload(bench, "wide", WIDE)]


def _overload(bench: Bench, model: str, size: Size) -> list[Overload]:
    lengths = lengths_of(REQUESTS, outliers=False)
    closed = bench.closed(model, size, lengths)
    closed()
    at_peak = closed()
    peak, deadline = at_peak.rate, DEADLINES * at_peak.percentile(50)
    messages = bench.folder / "overload.messages"
    write_requests(messages, model, size, lengths, timeout_us=int(deadline * 1e6))
    points = []
    for factor in OFFERED:
        rate = factor * peak
        gaps = np.random.default_rng(int(factor * 10)).exponential(1 / rate, int(rate * bench.seconds) + 1)
        job = Job(
            address=bench.server.address,
            messages=str(messages),
            result=str(bench.folder / "result.npz"),
            core=CLIENT_CORE,
            seconds=bench.seconds,
            arrivals=tuple(float(each) for each in np.cumsum(gaps)),
        )
        run = load(bench.server, job, bench.folder, model=model)
        in_time = run.answered & (run.latency <= deadline)
        goodput = float(in_time.sum() / run.seconds)
        points.append(
            Overload(
                model=f"{size.hidden} wide",
                offered_over_peak=factor,
                offered=rate,
                goodput=goodput,
                goodput_over_peak=goodput / peak,
                refused=float((~run.answered).sum() / run.seconds),
                p99_ms=run.percentile(99) * MILLISECONDS,
                deadline_ms=deadline * MILLISECONDS,
            )
        )
    return points


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Stay on one core inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _latencies(workload: str, runs: Sequence[Run]) -> list[Figure]:
    figures = [_figure(workload, "requests/s", [run.rate for run in runs])]
    for percent in (50, 99, 99.9, 100):
        word = "max" if percent == 100 else f"p{percent:g}"
        figures.append(_figure(workload, f"{word}, ms", [run.percentile(percent) * MILLISECONDS for run in runs]))
    figures.append(_figure(workload, "CPU per request, us", [run.cpu_per_request * 1e6 for run in runs]))
    figures.append(_figure(workload, "rows per engine call", [run.rows_per_call for run in runs]))
    figures.append(_figure(workload, "padding efficiency", [run.padding_efficiency for run in runs]))
    return figures


def _figure(
    workload: str, measure: str, values: Sequence[float], *, target: float | None = None, at_least: bool = True
) -> Figure:
    return Figure(
        workload=workload,
        measure=measure,
        value=float(np.median(values)),
        lowest=min(values),
        highest=max(values),
        target=target,
        at_least=at_least,
    )
