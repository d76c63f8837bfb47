"""Rates over time, and random arrivals of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.profiles import Profile, poisson, read_profile

unhurried = settings(deadline=None)  # the machine may be busy

SHAPES = ("steady:50", "ramp:0,80", "ramp:80,0", "steps:10,60,30", "spike:10,200", "spike:10,200,5", "diurnal:5,60")

rates = st.just(0.0) | st.floats(1e-3, 1000)  # rarer than once in a quarter of an hour is never
profiles = st.lists(st.tuples(st.floats(0.01, 50), rates), min_size=1, max_size=6).map(
    lambda parts: Profile(
        (0.0, *np.cumsum([length for length, _ in parts]).tolist()), (parts[0][1], *(rate for _, rate in parts))
    )
)


@unhurried
@given(profiles, st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_when_so_many_are_expected_is_the_inverse_of_how_many_are(profile: Profile, shares: list[float]) -> None:
    counts = np.sort(np.array(shares)) * profile.expected
    moments = profile.moments(counts)

    assert ((moments >= 0) & (moments <= profile.seconds)).all()
    assert (np.diff(moments) >= -1e-9 * profile.seconds).all()
    for count, moment in zip(counts, moments, strict=True):
        assert reached(profile, moment) == pytest.approx(count, rel=1e-6, abs=1e-4)


@unhurried
@given(profiles, st.integers(0, 2**32 - 1))
def test_arrivals_come_in_order_within_the_profile(profile: Profile, seed: int) -> None:
    arrivals = poisson(profile, np.random.default_rng(seed))

    assert (np.diff(arrivals) >= -1e-9 * profile.seconds).all()
    assert ((arrivals >= 0) & (arrivals <= profile.seconds)).all()
    assert abs(len(arrivals) - profile.expected) <= 8 * np.sqrt(profile.expected) + 8, "8 standard deviations"


@pytest.mark.parametrize("shape", SHAPES)
def test_arrivals_follow_the_rate_everywhere(shape: str) -> None:
    """In each tenth of 20 runs, the count is that of the integral, within 5 standard deviations of a Poisson count."""
    profile = read_profile(shape, 60.0)
    edges = np.linspace(0, 60, 11)
    runs = [poisson(profile, np.random.default_rng(seed)) for seed in range(20)]
    counts = np.histogram(np.concatenate(runs), edges)[0]
    expected = 20 * np.diff([reached(profile, edge) for edge in edges])

    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1e-9).all(), (counts, expected)


def test_gaps_of_a_steady_rate_are_exponential_and_independent() -> None:
    arrivals = poisson(read_profile("steady:1000", 60.0), np.random.default_rng(1))
    gaps = np.diff(arrivals)

    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(1e-3, rel=0.03), "an exponential's standard deviation is its mean"
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("shape", "at", "rate"),
    [
        ("steady:50", 30, 50),
        ("ramp:0,80", 30, 40),
        ("steps:10,60,30", 19.9, 10),
        ("steps:10,60,30", 20.0, 60),
        ("steps:10,60,30", 60.0, 30),
        ("spike:10,200", 30, 200),
        ("spike:10,200", 26.9, 10),
        ("spike:10,200,5", 27.4, 10),
        ("spike:10,200,5", 27.6, 200),
        ("diurnal:5,60", 0, 5),
        ("diurnal:5,60", 30, 60),
        ("diurnal:5,60", 15, 32.5),
    ],
)
def test_shapes_are_what_they_are_called(shape: str, at: float, rate: float) -> None:
    assert read_profile(shape, 60.0).rate_at(at) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("50", "unknown"),
        ("zigzag:1,2", "unknown"),
        ("steady:", "no list of numbers"),
        ("steady:fast", "no list of numbers"),
        ("steady:1,2", "2 numbers do not fit"),
        ("ramp:1", "1 numbers do not fit"),
        ("steady:-1", "from 0 to 100000"),
        ("steady:nan", "from 0 to 100000"),
        ("steady:inf", "from 0 to 100000"),
        ("steady:0", "no arrival is expected"),
        ("spike:1,2,60", "does not fit into 60 s"),
    ],
)
def test_a_shape_that_is_none_is_refused(shape: str, why: str) -> None:
    with pytest.raises(TrafficError, match=why):
        read_profile(shape, 60.0)


def reached(profile: Profile, moment: float) -> float:
    """Integrate the rate up to a moment, by the trapezoids between corners, written out once more."""
    total = 0.0
    corners = list(zip(profile.times, profile.rates, strict=True))
    for (t0, r0), (t1, r1) in pairwise(corners):
        end = min(t1, moment)
        if end > t0:
            at_end = r0 + (r1 - r0) * (end - t0) / (t1 - t0)
            total += (end - t0) * (r0 + at_end) / 2
    return total
