"""What a front has counted of the requests that Python has not seen: the values that it hands to the metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """A histogram.

    Attributes:
        buckets: how many fell between each bound and the one before; the last has no bound.
        seconds: of all together.
    """

    buckets: Sequence[int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was counted of one model version's requests.

    Attributes:
        outcomes: requests ended, by outcome.
        ok: durations of those that were answered.
        error: of all others.
        queue: how long requests waited for their first engine call.
        last_ok_at: when one was last answered, seconds since the epoch; 0.0 if none was.
    """

    outcomes: Mapping[str, int]
    ok: Durations
    error: Durations
    queue: Durations
    last_ok_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All counts of one moment.

    Attributes:
        versions: by model and version.
        not_served: requests that came to no model, by reason.
    """

    versions: Mapping[tuple[str, str], Counted]
    not_served: Mapping[str, int]
