"""What is asked of the server, and what of it counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.benchmarks.serving_engine import best_batch, engine_seconds
from loadtests.benchmarks.serving_figures import MILLISECONDS, Figure, by_front, figure, latencies
from loadtests.benchmarks.serving_fronts import GRPCIO, NATIVE
from loadtests.benchmarks.serving_measuring import SERVER_CORE, Job, Run, Target, floor, load, on_core
from loadtests.benchmarks.serving_models import (
    EMPTY,
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
EMPTY_STEPS, TINY_STEPS, MEDIUM_STEPS, WIDE_STEPS = 1, 60, 100, 20
SHORT_STEPS = 100
OVER_LIMIT = "requests/s over engine limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how long to measure.

    Attributes:
        fronts: a server of each, the one first that a server takes by itself; what is not compared is asked of it.
        generator: the program.
        models: the repository that they serve.
        folder: for files.
        seconds: of each stretch of load.
        engine_seconds: of looking for the engine's best batch, for each number of rows.
        repeats: of each stretch.
        connections: of the workload of many.
        in_flight: requests at a time, of that workload.
    """

    fronts: dict[str, Target]
    generator: Path
    models: Path
    folder: Path
    seconds: float
    engine_seconds: float
    repeats: int
    connections: int
    in_flight: int
    best_batches: dict[Path, int] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The front that a server takes by itself."""
        return next(iter(self.fronts))

    def file_of(self, model: str) -> Path:
        """Return a model's ONNX file."""
        return self.models / model / "1" / "model.onnx"

    def turns(self, variants: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
        """Run the variants one after the other, again and again; the first round warms up and is dropped."""
        return self.turns_and_limits(variants, lambda: 0.0)[0]

    def turns_and_limits(
        self, variants: Mapping[str, Callable[[], Run]], limit: Callable[[], float]
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

    def by_front(
        self, model: str, size: Size, lengths: Sequence[int], *, callers: int = CALLERS, stream: bool = False
    ) -> dict[str, Callable[[], Run]]:
        """Return a turn for each front, as `closed` has it."""
        return {
            front: self.closed(model, size, lengths, callers=callers, stream=stream, target=target)
            for front, target in self.fronts.items()
        }

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
        """Send requests for a model to the server with the first front, or to another one."""
        return load(target or self.fronts[self.first], job, self.generator, self.folder, model=model)

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
    """W1: a model so small that the wire is most of it, in FP32 and INT8."""
    lengths = [TINY_STEPS] * REQUESTS
    answer = bench.folder / "tiny.answer"
    answer.write_bytes(canned_answer(TINY))
    server, front = "grpcio's empty server", "an empty front by grpcio"
    figures = []
    with floor("threads", answer) as threads, floor("completions", answer) as completions:
        for name, stream, target in (("W1 FP32", False, 0.65), ("W1 FP32, streams", True, None)):
            closed = partial(bench.closed, "tiny", TINY, lengths, stream=stream)
            variants = bench.by_front("tiny", TINY, lengths, stream=stream)
            runs, limits = bench.turns_and_limits(
                {**variants, server: closed(target=threads), front: closed(target=completions)},
                partial(bench.limit, "tiny", TINY, TINY_STEPS),
            )
            ours = {each: runs[each] for each in bench.fronts}
            figures += by_front(name, OVER_LIMIT, _over_limit(ours, limits, lengths), target=target)
            over = partial(_over_floor, limits=limits)
            measure = f"CPU over ({server} + engine)"
            ratios = {each: over(mine, runs[server]) for each, mine in ours.items()}
            figures += by_front(name, measure, ratios, target=1.2, at_least=False)
            measure = f"CPU over ({front} + engine)"
            figures.append(figure(name, measure, over(ours[GRPCIO], runs[front]), front=GRPCIO))
            figures += latencies(name, ours)
            for kind in (server, front):
                measure = f"CPU of {kind} per request, us"
                figures.append(figure(name, measure, [run.cpu_per_request * 1e6 for run in runs[kind]]))
            figures.append(
                figure(name, "CPU of the engine per request, us", [TINY_STEPS / limit * 1e6 for limit in limits])
            )
    return [*figures, *_steady(bench, "W1 INT8", "tiny-int8", TINY, TINY_STEPS, target=0.60)]


def _over_floor(runs: Sequence[Run], empty: Sequence[Run], limits: Sequence[float]) -> list[float]:
    return [
        run.cpu_per_request / (floor.cpu_per_request + TINY_STEPS / limit)
        for run, floor, limit in zip(runs, empty, limits, strict=True)
    ]


def steady(bench: Bench) -> list[Figure]:
    """W2: a model of the usual size, sequences of one length, in FP32 and INT8."""
    return [
        *_steady(bench, "W2 FP32", "medium", MEDIUM, MEDIUM_STEPS, target=0.97),
        *_steady(bench, "W2 INT8", "medium-int8", MEDIUM, MEDIUM_STEPS, target=0.95),
    ]


def _steady(  # noqa: PLR0913  as above
    bench: Bench, name: str, model: str, size: Size, steps: int, *, target: float
) -> list[Figure]:
    lengths = [steps] * REQUESTS
    runs, limits = bench.turns_and_limits(
        bench.by_front(model, size, lengths), partial(bench.limit, model, size, steps)
    )
    return [
        *by_front(name, OVER_LIMIT, _over_limit(runs, limits, lengths), target=target),
        *latencies(name, runs),
    ]


def _over_limit(
    runs: Mapping[str, Sequence[Run]], limits: Sequence[float], lengths: Sequence[int]
) -> dict[str, list[float]]:
    """Return the steps per second of each run over the limit of its round."""
    return {
        name: [run.steps_rate(lengths) / limit for run, limit in zip(mine, limits, strict=True)]
        for name, mine in runs.items()
    }


def mixed_lengths(bench: Bench) -> list[Figure]:
    """W3: lengths as they come in life, against arrival order and padding on the same server."""
    lengths = lengths_of(REQUESTS, outliers=False)
    fifo = "arrival order and padding"
    runs, limits = bench.turns_and_limits(
        bench.by_front("medium", MEDIUM, lengths) | {fifo: bench.closed("medium-fifo", MEDIUM, lengths)},
        partial(bench.limit, "medium", MEDIUM, MEDIUM_STEPS),
    )
    padded = {bench.first: runs.pop(fifo)}
    gains = [
        mine.steps_rate(lengths) / theirs.steps_rate(lengths)
        for mine, theirs in zip(runs[bench.first], padded[bench.first], strict=True)
    ]
    shares = _over_limit(runs, limits, lengths)
    return [
        *by_front("W3", "real steps/s over engine limit without padding", shares, target=0.90),
        figure("W3", f"real steps/s over {fifo}", gains, front=bench.first, target=1.7),
        *latencies("W3", runs),
        *latencies(f"W3, {fifo}", padded),
    ]


def outliers(bench: Bench) -> list[Figure]:
    """W4: the same with one sequence in twenty of 2,000 steps: do the short ones suffer?"""
    lengths = {name: lengths_of(REQUESTS, outliers=name == "mixed") for name in ("plain", "mixed")}
    runs = bench.turns(
        {
            f"{name} {front}": run
            for name, each in lengths.items()
            for front, run in bench.by_front("medium", MEDIUM, each).items()
        }
    )

    def p99(name: str, front: str, among: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> list[float]:
        steps = np.array(lengths[name])
        return [run.percentile(99, among=among(steps[run.index])) * MILLISECONDS for run in runs[f"{name} {front}"]]

    alone, short = (
        {front: p99(name, front, lambda steps: steps < SHORT_STEPS) for front in bench.fronts} for name in lengths
    )
    long = {front: p99("mixed", front, lambda steps: steps == OUTLIER_STEPS) for front in bench.fronts}
    ratios = {
        front: [mine / theirs for mine, theirs in zip(short[front], alone[front], strict=True)]
        for front in bench.fronts
    }
    measure = "p99 of short requests over theirs without long ones"
    return [
        *by_front("W4", measure, ratios, target=2.0, at_least=False),
        *by_front("W4", "p99 of short requests, ms", short),
        *by_front("W4", "p99 of long requests, ms", long),
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
        figures.append(figure(f"batching, {size.hidden} wide", "requests/s on over off", gains, front=bench.first))
    return figures


def empty_model(bench: Bench) -> list[Figure]:
    """What a request costs where the engine has next to nothing to do."""
    runs = bench.turns(bench.by_front("empty", EMPTY, [EMPTY_STEPS] * REQUESTS))
    return latencies("empty model", runs, cpu_target=70.0 if bench.first == NATIVE else None)


def idle_server(bench: Bench) -> list[Figure]:
    """One caller: what a call takes beside the engine.

    Beside the bare engine, whose caches are warm, the transport and cold caches are in it. Beside grpcio's server with
    the engine in its handler they are not: caches are as cold after a call of the engine there as they are here.
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
    handler = "grpcio with the engine in its handler"

    def bare_engine() -> float:
        with on_core(SERVER_CORE):
            taken = engine_seconds(file, features=size.features, rows=1, steps=steps, seconds=bench.seconds)
        return float(np.median(taken)) * MILLISECONDS

    with floor("threads", answer, model=parameters) as working:
        variants = bench.by_front(model, size, lengths, callers=1)
        runs, engine = bench.turns_and_limits(
            {**variants, handler: bench.closed(model, size, lengths, callers=1, target=working)}, bare_engine
        )
    median = {name: [run.percentile(50) * MILLISECONDS for run in mine] for name, mine in runs.items()}
    ours = {front: median[front] for front in bench.fronts}

    def added(to: Sequence[float]) -> dict[str, list[float]]:
        return {front: [own - other for own, other in zip(mine, to, strict=True)] for front, mine in ours.items()}

    measure = "p50 over that of the bare engine, ms more"
    return [
        *by_front(workload, measure, added(engine), target=0.25, at_least=False, for_all=True),
        *by_front(workload, f"p50 over that of {handler}, ms more", added(median[handler])),
        *by_front(workload, "p50, ms", ours),
        figure(workload, f"p50 of {handler}, ms", median[handler]),
        figure(workload, "p50 of the bare engine, ms", engine),
    ]
