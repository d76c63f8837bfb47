"""Sends cases at a rate that does not wait for answers, and says of each request what became of it."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from loadtests.soak.cases import SEED, Case, malformed

SHARES = {"malformed": 0.05, "cancelled": 0.03, "hurried": 0.07}
"""Of the requests; the others are ordinary."""
HURRIED_SECONDS = 0.02
"""Deadline of a hurried request: some make it."""
DEADLINE_SECONDS = 10.0
IN_FLIGHT = 32
"""Of a closed loop, which finds the peak."""
MOST_IN_FLIGHT = 512
"""Of the open loop: half of the calls that a connection may have open. Cancelled ones count there until the server has
let them go, and gRPC core resets those beyond (REFUSED_STREAM)."""
ALLOWED = {
    "ordinary": {"right", "unchecked", "RESOURCE_EXHAUSTED"},
    "hurried": {"right", "unchecked", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"},
    "cancelled": {"right", "unchecked", "RESOURCE_EXHAUSTED", "CANCELLED"},
    "malformed": {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"},
}
"""What may become of each kind of request; anything else is lost or wrong."""


@dataclass
class Tally:
    """What was sent and what became of it; several threads count.

    Attributes:
        sent: requests by kind.
        ended: requests by kind and outcome.
        latencies: seconds of those that were answered since they were last taken.
        surprises: some of what should not have happened, in words.
    """

    sent: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def lost(self) -> int:
        """Requests that nothing became of, so far."""
        return self.sent.total() - self.ended.total()

    @property
    def wrong(self) -> int:
        """Requests that ended as requests of their kind must not."""
        return sum(count for (kind, outcome), count in self.ended.items() if outcome not in ALLOWED[kind])

    def take_latencies(self) -> list[float]:
        """Return the latencies since the last time."""
        with self.changed:
            taken, self.latencies = self.latencies, []
        return taken


class Driver:
    """Sends to one server."""

    def __init__(self, address: str, cases: Sequence[Case]) -> None:
        """Connect.

        Args:
            address: `host:port`.
            cases: to be sent, in random order.
        """
        self._client = triton.InferenceServerClient(address)
        self._cases = cases
        self._random = random.Random(SEED)  # noqa: S311  a schedule, no secret
        self._rng = np.random.default_rng(SEED)
        self.tally = Tally()

    def peak(self, seconds: float) -> float:
        """Return the ordinary requests a second that a closed loop gets answered."""
        before = self.tally.ended.total()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wait_below(IN_FLIGHT)
            self._send("ordinary")
        self.drain()
        return (self.tally.ended.total() - before) / (time.monotonic() - end + seconds)

    def drive(self, rate: float, stop: threading.Event) -> None:
        """Send so many requests a second, at random times, until told to stop."""
        due = time.monotonic()
        while not stop.is_set():
            due += self._random.expovariate(rate)
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._wait_below(MOST_IN_FLIGHT)
            self._send(self._kind())

    def drain(self, *, seconds: float = 2 * DEADLINE_SECONDS) -> None:
        """Wait until something has become of every request, or so long."""
        with self.tally.changed:
            self.tally.changed.wait_for(lambda: not self.tally.lost, seconds)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _kind(self) -> str:
        drawn = self._random.random()
        for kind, share in SHARES.items():
            drawn -= share
            if drawn < 0:
                return kind
        return "ordinary"

    def _wait_below(self, count: int) -> None:
        with self.tally.changed:
            self.tally.changed.wait_for(lambda: self.tally.lost < count, DEADLINE_SECONDS)

    def _send(self, kind: str) -> None:
        case = self._random.choice(self._cases)
        inputs = malformed(case, self._rng) if kind == "malformed" else case.inputs
        with self.tally.changed:
            self.tally.sent[kind] += 1
        call = self._client.async_infer(
            case.model,
            inputs,
            callback=partial(self._ended, kind, case, time.monotonic()),
            model_version=case.version,
            client_timeout=HURRIED_SECONDS if kind == "hurried" else DEADLINE_SECONDS,
        )
        if kind == "cancelled":
            call.cancel()

    def _ended(
        self,
        kind: str,
        case: Case,
        started: float,
        result: triton.InferResult | None,
        error: InferenceServerException | None,
    ) -> None:
        seconds = time.monotonic() - started
        if result is None:
            outcome = str(getattr(error, "status", lambda: None)()).removeprefix("StatusCode.")
        elif not case.answer:
            outcome = "unchecked"
        else:
            outcome = "right" if case.is_right(result) else "wrong"
        with self.tally.changed:
            self.tally.ended[kind, outcome] += 1
            if result is not None:
                self.tally.latencies.append(seconds)
            if outcome not in ALLOWED[kind] and len(self.tally.surprises) < 20:
                self.tally.surprises.append(f"{kind} {case.model} {case.version}: {outcome} {error}")
            self.tally.changed.notify_all()
