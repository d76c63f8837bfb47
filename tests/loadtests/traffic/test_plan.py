"""What is sent when: the whole of it is known beforehand, and dealt out without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.plan import Choice, plan_of_profile, plan_of_trace, share_of
from loadtests.traffic.profiles import read_profile
from loadtests.traffic.trace import Arrival

unhurried = settings(deadline=None)  # the machine may be busy

CHOICES = [
    *(Choice("stepwise", steps, can_stream=True) for steps in (5, 6, 7)),
    *(Choice("whole", steps, can_stream=False) for steps in (5, 9)),
]


def plan(seed: int = 0, *, stream_share: float = 0.5, rate: float = 200) -> np.ndarray:
    profile = read_profile(f"steady:{rate}", 10.0)
    return plan_of_profile(profile, CHOICES, stream_share=stream_share, rng=np.random.default_rng(seed))


@unhurried
@given(st.integers(1, 7), st.integers(0, 100))
def test_the_shares_of_the_workers_are_the_plan_and_nothing_twice(workers: int, seed: int) -> None:
    whole = plan(seed, rate=5)
    shares = [share_of(whole, worker, workers) for worker in range(workers)]

    together = np.concatenate(shares)
    assert np.array_equal(together[np.argsort(together["seconds"], kind="stable")], whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all((np.diff(share["seconds"]) >= 0).all() for share in shares)


def test_a_seed_makes_the_same_plan_and_another_makes_another() -> None:
    assert np.array_equal(plan(1), plan(1))
    assert not np.array_equal(plan(1), plan(2))


def test_models_are_asked_equally_often_and_each_sample_of_them_too() -> None:
    counts = np.bincount(plan()["sample"], minlength=len(CHOICES))

    assert counts[:3].sum() == pytest.approx(1000, abs=150)
    assert counts[3:].sum() == pytest.approx(1000, abs=150)
    assert counts[:3] == pytest.approx([333] * 3, abs=100)
    assert counts[3:] == pytest.approx([500] * 2, abs=120)


def test_only_stepwise_models_are_streamed_in_their_share() -> None:
    planned = plan(stream_share=0.25)
    stepwise = planned["sample"] < 3

    assert not planned["stream"][~stepwise].any()
    assert planned["stream"][stepwise].mean() == pytest.approx(0.25, abs=0.06)
    assert not plan(stream_share=0)["stream"].any()


@unhurried
@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(CHOICES))))
def test_a_trace_is_sent_as_it_was_recorded(drawn: list[tuple[float, Choice]]) -> None:
    arrivals = [Arrival(at, choice.model, choice.steps) for at, choice in sorted(drawn, key=lambda each: each[0])]
    planned = plan_of_trace(arrivals, CHOICES, stream_share=0, rng=np.random.default_rng(0))

    assert [Arrival(at, CHOICES[number].model, CHOICES[number].steps) for at, number, _ in planned.tolist()] == arrivals


def test_a_trace_needs_a_request_of_each_of_its_lengths() -> None:
    with pytest.raises(TrafficError, match="no request of 8 steps for the model 'whole'"):
        plan_of_trace([Arrival(0, "whole", 8)], CHOICES, stream_share=0, rng=np.random.default_rng(0))
