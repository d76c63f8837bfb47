"""What was answered so far of each model version, and how long it took: the values that metrics hand to the wire."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """How often something was done, and the seconds of all times together."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatistics:
    """One model version's totals since the server began to report on it.

    Attributes:
        model: its name.
        version: of the model.
        rows: computed whole, of requests that were answered.
        engine_calls: that ended well.
        last_ok_seconds: when a request was last answered with its outputs, since the epoch; 0.0 if none was.
        success: requests with the outcome ok.
        fail: all others.
        queue: from requests' arrival to their first engine call.
        pack: engine calls; gathering rows.
        engine: engine calls; the engine itself.
        scatter: engine calls; moving outputs into answers.
    """

    model: str
    version: str
    rows: int
    engine_calls: int
    last_ok_seconds: float
    success: Total
    fail: Total
    queue: Total
    pack: Total
    engine: Total
    scatter: Total
