"""A fleet loses nothing, whoever balances, dies, comes or leaves; and one seed has one result."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.simulate.costs import EngineCost
from loadtests.simulate.fleet import simulate
from loadtests.simulate.requests import Outcome
from loadtests.simulate.traffic import requests
from tests.loadtests.simulate.house import scenario

POLICIES = ["round_robin", "random", "two_choices", "least_request", "backlog", "least_backlog"]
BACKLOG = {"metric": "backlog", "target": 0.05, "average": 0.4}
CPU = {"metric": "cpu", "target": 0.7, "average": 0.4}
IN_FLIGHT = {"metric": "in_flight", "target": 8, "average": 0.4}
SCALING = {"targets": [BACKLOG], "most": 12, "sync": 0.3, "scrape": 0.2}


@settings(max_examples=25, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    rate=st.floats(50, 2000),
    count=st.integers(1, 5),
    deaths=st.lists(st.tuples(st.floats(0.1, 1.5), st.booleans()), max_size=2),
    scaling=st.none() | st.sampled_from([[BACKLOG], [CPU], [IN_FLIGHT], [BACKLOG, CPU]]),
    retries=st.fixed_dictionaries(
        {
            "attempts": st.integers(1, 4),
            "overload": st.booleans(),
            "pushback": st.booleans(),
            "budget": st.none() | st.just(0.2),
        }
    ),
    seed=st.integers(0, 100),
)
def test_every_request_ends_exactly_once(
    policy: str,
    rate: float,
    count: int,
    deaths: list[tuple[float, bool]],
    scaling: list[dict[str, Any]] | None,
    retries: dict[str, Any],
    seed: int,
) -> None:
    settings = {
        "seed": seed,
        "traffic__rate": rate,
        "replicas__count": count,
        "replicas__deaths": [{"at": at, "silent": silent} for at, silent in deaths],
        "balance__policy": policy,
        "balance__detection": 0.3,
        "balance__discovery": 0.1,
        "retries": retries,
    }
    if scaling:
        settings["autoscaling"] = SCALING | {"targets": scaling}
    chosen = scenario(**settings)
    result = simulate(chosen)

    assert result.sent == result.outcomes.total()
    assert result.outcomes[Outcome.OK] == len(result.latency_ns)
    assert result.sent <= result.attempts <= chosen.retries.attempts * result.sent
    assert result.samples[-1].in_time <= result.samples[-1].ended <= result.sent
    assert result.busy_seconds <= result.replica_seconds
    assert result.latencies.max(initial=0) <= 0.5e9, "later than the deadline is not in time"
    if not scaling and not deaths:
        assert {sample.ready for sample in result.samples} == {count}


def test_what_was_sent_is_what_the_traffic_drew() -> None:
    chosen = scenario()
    result = simulate(chosen)
    drawn = sum(1 for _ in requests(chosen.traffic, chosen.seconds, proxies=4, seed=5))

    assert abs(result.sent - chosen.traffic.rate * chosen.seconds) < 5 * (chosen.traffic.rate * chosen.seconds) ** 0.5
    assert abs(drawn - result.sent) < 7 * drawn**0.5


def test_one_seed_has_one_result_and_another_another() -> None:
    settings = {
        "traffic__rate": 1500.0,
        "replicas__deaths": [{"at": 0.5}],
        "autoscaling": SCALING,
        "cost__engine": EngineCost.linear(call=2e-4, step=5e-5, row_step=5e-6, noise=0.2),
    }
    one, same, other = (simulate(scenario(seed=seed, **settings)) for seed in (3, 3, 4))

    assert one == same
    assert one.latency_ns != other.latency_ns


def test_time_that_warms_up_does_not_count() -> None:
    whole, part = simulate(scenario()), simulate(scenario(warm_up=1.0))

    assert 0.4 < part.sent / whole.sent < 0.6
    assert part.goodput == pytest.approx(whole.goodput, rel=0.15)


def mean_ms(policy: str, **settings: Any) -> float:
    result = simulate(scenario(balance__policy=policy, seconds=1.5, replicas__count=10, **settings))
    return float(result.latencies.mean()) / 1e6


ONE_BY_ONE = {
    "replicas__policy": {"batching": "fifo", "max_batch_rows": 1},
    "cost__engine": EngineCost.linear(call=2e-3, step=1e-7, row_step=1e-9),
    "traffic__rate": 4000.0,
    "cost__front": {},
}
"""A load of 0.8, and no batches whose size would follow the queue."""


def test_two_choices_wait_less_than_one() -> None:
    """At a load of 0.8 a random choice waits for 2 services on average (M/D/1), the better of two for less than half."""
    wait = {policy: mean_ms(policy, **ONE_BY_ONE) - 2.0 for policy in ("random", "two_choices")}

    assert wait["random"] == pytest.approx(4.0, rel=0.3)
    assert wait["two_choices"] < wait["random"] / 2


def test_counts_of_one_proxy_of_many_are_worth_less() -> None:
    few, many = (mean_ms("least_request", balance__proxies=proxies, **ONE_BY_ONE) for proxies in (1, 64))

    assert few < many


def test_everyone_follows_the_least_backlog_of_a_while_ago() -> None:
    """All requests of half a second go to the replicas that had nothing to do at its beginning."""
    settings = ONE_BY_ONE | {"balance__refresh": 0.5, "traffic__rate": 3500.0}
    herd, two = (mean_ms(policy, **settings) for policy in ("least_backlog", "backlog"))

    assert two < herd


@pytest.mark.parametrize("silent", [False, True])
def test_a_death_is_retried_elsewhere(silent: bool) -> None:
    settings: dict[str, Any] = {
        "replicas__deaths": [{"at": 1.0, "silent": silent}],
        "balance__detection": 0.2,
        "traffic__patience": [{"seconds": None}],
    }
    with_retries = simulate(scenario(**settings))
    without = simulate(scenario(retries={"attempts": 1}, **settings))

    assert with_retries.outcomes == Counter({Outcome.OK: with_retries.sent})
    assert with_retries.amplification > 1
    assert without.outcomes[Outcome.UNAVAILABLE] > 0


def test_a_budget_bounds_what_retries_add_to_an_overload() -> None:
    settings: dict[str, Any] = {"traffic__rate": 6000.0, "seconds": 1.0}
    policy = {"attempts": 4, "overload": True, "pushback": False}
    storm = simulate(scenario(retries=policy | {"budget": None}, **settings))
    bounded = simulate(scenario(retries=policy | {"budget": 0.2, "least": 1}, **settings))

    assert storm.amplification > 1.8
    assert bounded.amplification < 1.4


def test_the_fleet_grows_with_the_load_and_shrinks_after_it() -> None:
    chosen = scenario(
        seconds=14.0,
        traffic__rate=300.0,
        traffic__surges=[{"at": 2.0, "seconds": 3.0, "factor": 12.0}],
        autoscaling=SCALING
        | {"least": 2, "down": {"window": 3.0, "rules": [{"kind": "Percent", "value": 100, "period": 1}]}},
    )
    result = simulate(chosen)
    ready = [sample.ready for sample in result.samples]

    assert max(ready) > 4
    assert ready[-1] < max(ready)
    assert result.replica_seconds < max(ready) * 14.0


def test_a_slow_replica_is_used_less_by_those_who_see_it() -> None:
    settings = {"replicas__slow": 1, "replicas__slow_speed": 0.3, "traffic__rate": 1200.0, "seconds": 2.0}
    seeing, blind = (
        simulate(scenario(balance__policy=policy, balance__proxies=1, **settings))
        for policy in ("least_request", "round_robin")
    )

    assert seeing.percentile(99) < blind.percentile(99)
