"""Traffic is as it is said to be."""

from itertools import pairwise

import numpy as np
import pytest

from loadtests.simulate.scenario import Lengths, Traffic
from loadtests.simulate.traffic import draw_lengths, rate_at, requests
from tests.loadtests.simulate.house import SECOND

DAY = Traffic.model_validate(
    {
        "rate": 500.0,
        "swing": 0.8,
        "day": 40.0,
        "surges": [{"at": 30.0, "seconds": 5.0, "factor": 3.0}],
        "patience": [{"seconds": 0.1, "share": 0.25}, {"seconds": None, "share": 0.75}],
    }
)


def test_the_rate_follows_the_day_and_its_surges() -> None:
    rates = rate_at(DAY, np.array([0.0, 10.0, 20.0, 30.0, 34.9, 35.1]))

    assert rates[:4] == pytest.approx([100.0, 500.0, 900.0, 1500.0])
    assert rates[4] / rates[5] == pytest.approx(3.0, rel=0.06)


def test_as_many_requests_come_as_the_rate_says() -> None:
    drawn = list(requests(DAY, 40.0, proxies=3, seed=1))
    sent = np.array([request.sent_ns for request in drawn]) / SECOND
    edges = np.arange(0.0, 40.1, 2.0)
    counts, _ = np.histogram(sent, edges)
    fine = rate_at(DAY, np.arange(0.0, 40.0, 0.01)).reshape(20, 200).mean(axis=1) * 2

    assert all(one.sent_ns <= other.sent_ns for one, other in pairwise(drawn))
    assert (np.abs(counts - fine) < 5 * np.sqrt(fine)).all()
    assert np.mean([request.deadline_ns - request.sent_ns == SECOND // 10 for request in drawn]) == pytest.approx(
        0.25, abs=0.02
    )
    assert {request.proxy for request in drawn} == {0, 1, 2}
    assert [request.number for request in drawn] == list(range(len(drawn)))


def test_lengths_are_log_normal_and_clipped() -> None:
    drawn = draw_lengths(Lengths(), 20_000, np.random.default_rng(0))

    assert drawn.min() >= 10
    assert drawn.max() <= 400
    assert np.median(drawn) == pytest.approx(60, abs=2)
