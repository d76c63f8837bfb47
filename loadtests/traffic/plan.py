"""Which request goes out when: made once, before anything is sent, and dealt out to the workers. Pure.

Because the whole plan exists beforehand, it cannot depend on the answers, and what comes back can be compared with it
request by request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.profiles import Profile, poisson
from loadtests.traffic.trace import Arrival

PLANNED = np.dtype([("seconds", "<f8"), ("sample", "<u4"), ("stream", "?")])
"""A request that is to be sent: when, in seconds from the start; which of the samples; over a stream or alone."""
Planned = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Choice:
    """A sample that the plan may pick: its model, its steps, and whether it can be sent piece by piece in a stream."""

    model: str
    steps: int
    can_stream: bool


def plan_of_profile(
    profile: Profile, choices: Sequence[Choice], *, stream_share: float, rng: np.random.Generator
) -> Planned:
    """Draw arrivals of a rate; each asks any model with equal probability, and any of its samples.

    Args:
        profile: of the rate.
        choices: the samples.
        stream_share: of the arrivals at models that can stream.
        rng: of all draws.

    Returns:
        PLANNED[arrivals], ascending.
    """
    by_model = _by_model(choices)
    plan = np.zeros(len(seconds := poisson(profile, rng)), PLANNED)
    plan["seconds"] = seconds
    model = rng.integers(len(by_model), size=len(plan))
    for number, samples in enumerate(by_model.values()):
        asked = model == number
        plan["sample"][asked] = rng.choice(samples, size=int(asked.sum()))
    plan["stream"] = _streams(plan, choices, stream_share, rng)
    return plan


def plan_of_trace(
    arrivals: Sequence[Arrival], choices: Sequence[Choice], *, stream_share: float, rng: np.random.Generator
) -> Planned:
    """Plan recorded arrivals; of the samples with an arrival's model and steps, any is taken.

    Raises:
        TrafficError: there is no such sample.
    """
    fitting: dict[tuple[str, int], list[int]] = {}
    for number, choice in enumerate(choices):
        fitting.setdefault((choice.model, choice.steps), []).append(number)
    plan = np.zeros(len(arrivals), PLANNED)
    for row, arrival in zip(plan, arrivals, strict=True):
        samples = fitting.get((arrival.model, arrival.steps))
        if samples is None:
            raise TrafficError(f"no request of {arrival.steps} steps for the model '{arrival.model}' was made")
        row["seconds"], row["sample"] = arrival.seconds, samples[int(rng.integers(len(samples)))]
    plan["stream"] = _streams(plan, choices, stream_share, rng)
    return plan


def share_of(plan: Planned, worker: int, workers: int) -> Planned:
    """Return what one of several workers sends: every n-th arrival, so that all of them together send the plan."""
    return plan[worker::workers]


def _by_model(choices: Sequence[Choice]) -> Mapping[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, choice in enumerate(choices):
        numbers.setdefault(choice.model, []).append(number)
    return numbers


def _streams(
    plan: Planned, choices: Sequence[Choice], stream_share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    can = np.array([choice.can_stream for choice in choices])
    streamed: NDArray[np.bool_] = can[plan["sample"]] & (rng.random(len(plan)) < stream_share)
    return streamed
