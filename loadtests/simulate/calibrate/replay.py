"""The same trace for a real server and for a simulated replica."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.benchmarks.serving_measuring import Run
from loadtests.simulate.costs import ModelCost
from loadtests.simulate.events import NANOSECONDS, Loop, to_ns
from loadtests.simulate.replica import Replica
from loadtests.simulate.requests import Outcome, Request
from serving.batching import NEVER_NS
from serving.policy import Policy

MEASURES = ("answers/s", "p50, ms", "p99, ms", "rows per call", "CPU per request, us")
MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests of one row each.

    Attributes:
        name: of the load.
        arrivals: seconds from the start.
        lengths: steps of the messages, which are sent in turn.
        timeout_seconds: of each request, 0 for none.
    """

    name: str
    arrivals: Sequence[float]
    lengths: Sequence[int]
    timeout_seconds: float


def poisson(  # noqa: PLR0913  what a trace is made of
    name: str, rate: float, seconds: float, lengths: Sequence[int], *, timeout: float, seed: int
) -> Trace:
    """Draw arrivals that care for nothing but the clock."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds) + 1)
    return Trace(name=name, arrivals=np.cumsum(gaps).tolist(), lengths=lengths, timeout_seconds=timeout)


def engine_seconds(costs: ModelCost, policy: Policy, lengths: Sequence[int], *, callers: int, sent: int) -> float:
    """Return the seconds of engine calls per request of a closed loop, where each caller has one request at a time."""
    loop = Loop()
    network_ns = to_ns(costs.front.network)
    numbers = iter(range(sent))

    def call(_: int) -> None:
        number = next(numbers, None)
        if number is not None:
            replica.arrive(Request(number, lengths[number % len(lengths)], loop.now_ns, NEVER_NS))

    def ended(*_: object) -> None:
        loop.at(loop.now_ns + network_ns, call, 0)

    replica = Replica(loop, costs, policy, ended=ended, seed=0, stepwise=True)
    for _ in range(callers):
        call(0)
    loop.run()
    return replica.engine_ns / NANOSECONDS / sent


def figures_of(run: Run, trace: Trace) -> dict[str, float]:
    """Return what is compared, of the real server."""
    in_time = run.answered & ((run.latency <= trace.timeout_seconds) if trace.timeout_seconds else True)
    return dict(
        zip(
            MEASURES,
            (
                float(in_time.sum() / run.seconds),
                run.percentile(50, among=in_time) * MILLISECONDS,
                run.percentile(99, among=in_time) * MILLISECONDS,
                run.rows_per_call,
                run.cpu_per_request * 1e6,
            ),
            strict=True,
        )
    )


def simulated(costs: ModelCost, policy: Policy, trace: Trace, *, stepwise: bool, seed: int = 0) -> dict[str, float]:
    """Return what is compared, of one simulated replica."""
    loop = Loop()
    latency_ns: list[int] = []
    network_ns, timeout_ns = to_ns(costs.front.network), to_ns(trace.timeout_seconds) or NEVER_NS

    def ended(request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        del retry_ns
        took_ns = loop.now_ns - request.sent_ns + network_ns
        if outcome is Outcome.OK and took_ns <= timeout_ns:
            latency_ns.append(took_ns)

    replica = Replica(loop, costs, policy, ended=ended, seed=seed, stepwise=stepwise)
    for number, at in enumerate(trace.arrivals):
        steps = trace.lengths[number % len(trace.lengths)]
        loop.at(to_ns(at), replica.arrive, Request(number, steps, to_ns(at), timeout_ns))
    loop.run()
    seconds = loop.now_ns / NANOSECONDS
    p50, p99 = np.percentile(latency_ns, (50, 99)) if latency_ns else (float("nan"), float("nan"))
    figures = (
        len(latency_ns) / seconds,
        float(p50) / NANOSECONDS * MILLISECONDS,
        float(p99) / NANOSECONDS * MILLISECONDS,
        replica.batch_rows / max(1, replica.batches),
        replica.processor.settled_busy_ns() / 1e3 / len(trace.arrivals),
    )
    return dict(zip(MEASURES, figures, strict=True))
