"""What became of every request of a run, and what that took."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtests.simulate.events import NANOSECONDS
from loadtests.simulate.requests import REFUSED, Outcome, Request


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one moment.

    Attributes:
        at: seconds since the start.
        ready: replicas that take requests.
        asked: replicas that the autoscaler asks for.
        backlog: mean seconds of the ready ones.
        ended: requests that had ended so far, `in_time` of them with an answer in time.
        in_time: see `ended`.
    """

    at: float
    ready: int
    asked: int
    backlog: float
    ended: int
    in_time: int


@dataclass(slots=True)
class Result:
    """One run. Latencies are nanoseconds from the first sending until the answer, retries and network included.

    Attributes:
        seconds: of traffic that count: what was sent in them.
        sent: requests that count.
        attempts: times that these were sent to a replica.
        outcomes: of these.
        latency_ns: of those answered in time.
        steps: of the same.
        replica_seconds: from when each replica was asked for until it was gone.
        busy_seconds: of cores.
        batches: engine calls of all replicas.
        batch_rows: rows in them.
        samples: of the fleet, as time went by.
    """

    seconds: float
    sent: int = 0
    attempts: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latency_ns: "array[int]" = field(default_factory=lambda: array("q"))
    steps: "array[int]" = field(default_factory=lambda: array("q"))
    replica_seconds: float = 0.0
    busy_seconds: float = 0.0
    batches: int = 0
    batch_rows: int = 0
    samples: list[Sample] = field(default_factory=list)

    def end(self, request: Request) -> None:
        """Count a request that has ended."""
        self.sent += 1
        self.attempts += request.attempts
        self.outcomes[request.outcome] += 1
        if request.outcome is Outcome.OK:
            self.latency_ns.append(request.ended_ns - request.sent_ns)
            self.steps.append(request.steps)

    @property
    def goodput(self) -> float:
        """Answers in time per second."""
        return self.outcomes[Outcome.OK] / self.seconds

    @property
    def good_share(self) -> float:
        """Of the requests, the share that was answered in time."""
        return self.outcomes[Outcome.OK] / max(1, self.sent)

    @property
    def refused_share(self) -> float:
        """Of the requests, the share that was refused for load in the end."""
        return sum(self.outcomes[outcome] for outcome in REFUSED) / max(1, self.sent)

    @property
    def amplification(self) -> float:
        """Times that a request was sent, on average."""
        return self.attempts / max(1, self.sent)

    @property
    def rows_per_call(self) -> float:
        """Mean rows of an engine call."""
        return self.batch_rows / max(1, self.batches)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency of what was answered in time, seconds; NaN if nothing was."""
        if not self.latency_ns:
            return float("nan")
        return float(np.percentile(self.latencies, percent) / NANOSECONDS)

    @property
    def latencies(self) -> NDArray[np.int64]:
        """Nanoseconds, int64[answers in time]."""
        return np.frombuffer(self.latency_ns, np.int64)
