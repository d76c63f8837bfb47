"""Results that queueing theory knows."""

import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.simulate.costs import EngineCost, FrontCost
from loadtests.simulate.events import Loop, to_ns
from loadtests.simulate.replica import Replica
from loadtests.simulate.requests import Outcome, Request
from tests.loadtests.simulate.house import FREE_FRONT, SECOND, cost_of, policy_of


def one_by_one(engine: EngineCost, arrivals: list[tuple[float, int]], front: FrontCost = FREE_FRONT) -> list[float]:
    """Return the seconds that requests wait beside their service, on a replica that runs one row per call, in order."""
    loop, waits = Loop(), []

    def ended(request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        assert outcome is Outcome.OK
        assert retry_ns is None
        waits.append((loop.now_ns - request.sent_ns) / SECOND - engine.seconds(1, request.steps))

    policy = policy_of(batching="fifo", max_batch_rows=1, max_queue_rows=10**6)
    replica = Replica(loop, cost_of(engine, front), policy, ended=ended, seed=0, stepwise=False, max_inflight=10**6)
    for number, (at, steps) in enumerate(arrivals):
        loop.at(to_ns(at), replica.arrive, Request(number, steps, to_ns(at)))
    loop.run()
    assert len(waits) == len(arrivals)
    return waits


def poisson(rate: float, count: int, lengths: list[int], seed: int) -> list[tuple[float, int]]:
    draw, at, arrivals = random.Random(seed), 0.0, []  # noqa: S311  no secret
    for _ in range(count):
        at += draw.expovariate(rate)
        arrivals.append((at, draw.choice(lengths)))
    return arrivals


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_row_per_call_of_one_length_is_m_d_1(load: float) -> None:
    """Mean wait of Poisson arrivals and constant service: load * service / (2 (1 - load)) (Pollaczek and Khinchine)."""
    engine = EngineCost.linear(call=1e-3, step=0, row_step=1e-9)
    service = engine.seconds(1, 10)
    waits = one_by_one(engine, poisson(load / service, 12_000, [10], seed=1))

    assert fmean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.12)


def test_lengths_that_differ_are_m_g_1() -> None:
    """Mean wait: rate * E[service^2] / (2 (1 - load)) (Pollaczek and Khinchine)."""
    engine, lengths, load = EngineCost.linear(call=1e-4, step=1e-5, row_step=1e-9), [10, 10, 10, 200], 0.6
    services = [engine.seconds(1, steps) for steps in lengths]
    rate = load / fmean(services)
    waits = one_by_one(engine, poisson(rate, 15_000, lengths, seed=2))

    expected = rate * fmean(service**2 for service in services) / (2 * (1 - load))
    assert fmean(waits) == pytest.approx(expected, rel=0.15)


def test_the_front_takes_its_part_of_the_core() -> None:
    """With 0.4 ms of front and 1 ms of engine for a request, a core does 714 a second and no more."""
    engine = EngineCost.linear(call=1e-3, step=0, row_step=1e-12)
    front = FrontCost(unread=1e-4, message=1e-4, reply=2e-4)
    arrivals = [(0.0, 1)] * 500
    waits = one_by_one(engine, arrivals, front)

    assert max(waits) + engine.seconds(1, 1) == pytest.approx(500 * 1.4e-3, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.floats(0, 0.05), st.integers(1, 300), st.floats(0.001, 0.2)), min_size=1, max_size=60
    ),
    stepwise=st.booleans(),
    instances=st.integers(1, 3),
    most=st.sampled_from([None, 1, 4]),
)
def test_every_request_ends_once_and_none_before_it_began(
    arrivals: list[tuple[float, int, float]], stepwise: bool, instances: int, most: int | None
) -> None:
    loop, ended = Loop(), list[Request]()
    engine = EngineCost.linear(call=2e-4, row=5e-6, step=5e-5, row_step=5e-6, noise=0.3)
    front = FrontCost(unread=1e-4, message=2e-4, reply=1e-4, error=5e-5, wake=3e-5)

    def end(request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        assert request.sent_ns <= request.begun_ns <= loop.now_ns
        assert (retry_ns or 0) >= 0
        if outcome is Outcome.OK:
            assert loop.now_ns - request.sent_ns > 1e9 * front.answered
        ended.append(request)

    policy = policy_of(instances=instances, max_batch_rows=most, max_queue_rows=16, max_request_rows=1)
    replica = Replica(loop, cost_of(engine, front), policy, ended=end, seed=1, stepwise=stepwise, max_inflight=24)
    for number, (at, steps, patience) in enumerate(arrivals):
        loop.at(to_ns(at), replica.arrive, Request(number, steps, to_ns(at), to_ns(patience)))
    loop.run()

    assert sorted(request.number for request in ended) == list(range(len(arrivals)))
    assert replica.in_flight == 0
    assert replica.batcher.live_tickets == 0
    assert replica.processor.settled_busy_ns() <= instances * loop.now_ns
    assert replica.batch_rows >= replica.batches
