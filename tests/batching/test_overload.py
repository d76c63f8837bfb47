"""Servers in simulated time: goodput and punctuality under overload, and short requests among long ones."""

import functools
import random
from collections.abc import Callable

import pytest

from serving.batching import NEVER_NS, Batcher, Policy, Refused, Stepwise, WholeSequence
from tests.batching.house import SECOND_NS, Engine, seeded
from tests.batching.simulator import Arrival, Outcome, Simulation, log_normal_steps, poisson

ENGINE = Engine()
LOADS = (0.5, 1.0, 2.0, 5.0)
SECONDS = 1.5
LATE_SHARE = 0.01
"""Of the admitted, with an engine that takes exactly what the cost model says; measured: 0.004 at most."""
LATE_SHARE_NOISY = 0.03
"""The same with calls that vary by 15 %, and one in 200 that takes ten times as long, half of a request's patience."""
ONE_NS = 200_000_000
MIXED_NS = (60_000_000, 150_000_000, 400_000_000, 1_500_000_000)


def batcher(kind: str, *, max_rows: int | None = None, max_queue_rows: int = 1024) -> Batcher:
    cost = ENGINE.warm_cost()
    policy: Policy = (
        Stepwise(cost, tick_seconds=0.01, max_rows=max_rows)
        if kind == "stepwise"
        else WholeSequence(cost, max_rows=max_rows)
    )
    return Batcher(policy, cost, max_queue_rows=max_queue_rows)


def patience(deadlines: str, seed: random.Random) -> Callable[[], int]:
    return (lambda: ONE_NS) if deadlines == "uniform" else (lambda: seed.choice(MIXED_NS))


def closed_loop(
    kind: str, *, callers: int, requests: int, steps: Callable[[], int], max_rows: int | None = None
) -> Outcome:
    """Run callers that each send the next request when they have the answer to the last one."""
    left = iter(range(requests - callers))

    def then(now_ns: int) -> Arrival | None:
        return None if next(left, None) is None else Arrival(now_ns, steps())

    first = [Arrival(0, steps()) for _ in range(callers)]
    return Simulation(batcher(kind, max_rows=max_rows), ENGINE, then=then).run(first)


@functools.cache
def capacity(kind: str) -> float:
    """Return the requests per second that a server with enough to do and no deadlines answers."""
    seed = seeded(1)
    outcome = closed_loop(kind, callers=256, requests=2500, steps=lambda: log_normal_steps(seed))
    return len(outcome.answers) / outcome.ended_ns * SECOND_NS


@functools.cache
def overloaded(kind: str, deadlines: str, load: float, *, noisy: bool) -> Outcome:
    """Send so many times the capacity."""
    seed, hiccups = seeded(7), seeded(3)

    def noise() -> float:
        return hiccups.lognormvariate(0.0, 0.15) * (10.0 if hiccups.random() < 0.005 else 1.0) if noisy else 1.0

    arrivals = poisson(load * capacity(kind), SECONDS, lambda: log_normal_steps(seed), patience(deadlines, seed), seed)
    return Simulation(batcher(kind), ENGINE, noise=noise).run(arrivals)


def goodput(outcome: Outcome) -> float:
    return len(outcome.answers) / outcome.ended_ns


def good_steps(outcome: Outcome) -> float:
    return sum(answer.arrival.steps for answer in outcome.answers) / outcome.ended_ns


kinds = pytest.mark.parametrize("kind", ["stepwise", "whole"])
deadline_kinds = pytest.mark.parametrize("deadlines", ["uniform", "mixed"])


@kinds
@deadline_kinds
def test_goodput_stays_at_its_peak_under_overload(kind: str, deadlines: str) -> None:
    """In steps at its peak; in requests, of which there may be more when more of the short ones fit, at capacity."""
    outcomes = [overloaded(kind, deadlines, load, noisy=False) for load in LOADS]

    assert min(map(good_steps, outcomes[2:])) >= 0.9 * max(map(good_steps, outcomes))
    assert min(map(goodput, outcomes[2:])) >= 0.9 * max(*map(goodput, outcomes[:2]), capacity(kind) / SECOND_NS)


@kinds
@deadline_kinds
@pytest.mark.parametrize("load", LOADS)
def test_what_is_admitted_is_answered_in_time(kind: str, deadlines: str, load: float) -> None:
    outcome = overloaded(kind, deadlines, load, noisy=False)

    assert len(outcome.late) <= LATE_SHARE * outcome.admitted
    assert all(answer.took_ns < answer.arrival.patience_ns for answer in outcome.answers)


@kinds
@pytest.mark.parametrize("load", [2.0, 5.0])
def test_on_a_machine_with_hiccups_goodput_holds_and_few_are_late(kind: str, load: float) -> None:
    usual = overloaded(kind, "uniform", 1.0, noisy=True)
    outcome = overloaded(kind, "uniform", load, noisy=True)

    assert goodput(outcome) >= 0.9 * goodput(usual)
    assert good_steps(outcome) >= 0.8 * good_steps(usual)
    assert len(outcome.late) <= LATE_SHARE_NOISY * outcome.admitted


@kinds
def test_below_capacity_next_to_nothing_is_refused(kind: str) -> None:
    outcome = overloaded(kind, "uniform", 0.5, noisy=False)

    assert len(outcome.refused) <= 0.001 * outcome.admitted


@kinds
@deadline_kinds
def test_every_refusal_for_load_says_when_to_come_back(kind: str, deadlines: str) -> None:
    refused = overloaded(kind, deadlines, 5.0, noisy=False).refused

    assert len(refused) > 1000
    assert all(each.retry_ns is not None and each.retry_ns > 0 for _, each in refused)


@kinds
@pytest.mark.parametrize("seed", range(24))
def test_who_comes_back_when_told_is_taken_if_nothing_else_came(kind: str, seed: int) -> None:
    """At once, or in one case of many at the second attempt: whole sequences end in calls of very unequal length."""
    draw = seeded(seed)
    patience_ns = patience("mixed" if seed % 2 else "uniform", draw)
    burst_ns = SECOND_NS // 10
    times = sorted(draw.randrange(burst_ns) for _ in range(draw.randint(200, 700)))
    burst = [Arrival(at_ns, log_normal_steps(draw), patience_ns()) for at_ns in times]
    hints: list[int] = []

    def again(arrival: Arrival, refused: Refused, now_ns: int) -> Arrival | None:
        if arrival.at_ns < burst_ns:
            return None
        assert refused.retry_ns is not None
        hints.append(refused.retry_ns)
        return Arrival(now_ns + refused.retry_ns, arrival.steps, arrival.patience_ns)

    last = Arrival(burst_ns, log_normal_steps(draw), patience_ns())
    Simulation(batcher(kind, max_queue_rows=300), ENGINE, again=again).run([*burst, last])

    assert len(hints) <= (1 if kind == "stepwise" else 2)


@pytest.mark.parametrize("max_rows", [None, 32])
def test_long_sequences_hardly_delay_short_ones_of_64_callers(max_rows: int | None) -> None:
    """One request in 20 has 2,000 steps; by then they are more than half of all work."""

    def p99_ms(*, long_share: float) -> float:
        lengths, kinds_of = seeded(5), seeded(6)

        def steps() -> int:
            short = log_normal_steps(lengths)
            return 2000 if kinds_of.random() < long_share else short

        outcome = closed_loop("stepwise", callers=64, requests=3000, steps=steps, max_rows=max_rows)
        assert len(outcome.answers) == 3000
        return outcome.p99_ms(below_steps=100)

    assert p99_ms(long_share=0.05) <= 2 * p99_ms(long_share=0.0)


def test_long_sequences_hardly_delay_short_ones_of_callers_that_do_not_wait() -> None:
    def p99_ms(*, long_share: float) -> float:
        seed, kinds_of = seeded(5), seeded(6)
        mean_steps, usual_steps = 80 * (1 - long_share) + 2000 * long_share, 80

        def steps() -> int:
            short = log_normal_steps(seed)
            return 2000 if kinds_of.random() < long_share else short

        rate = 0.8 * capacity("stepwise") * usual_steps / mean_steps
        outcome = Simulation(batcher("stepwise"), ENGINE).run(
            poisson(rate, 3.0, steps, lambda: NEVER_NS - 10 * SECOND_NS, seed)
        )
        assert not outcome.refused
        return outcome.p99_ms(below_steps=401)

    assert p99_ms(long_share=0.05) <= 2 * p99_ms(long_share=0.0)
