"""A server in simulated time: a real batcher, an engine that is a formula, arrivals from a seed.

Events happen in the order of their time, and among those of one time in the order in which they were made, so that a
seed gives one outcome on every machine.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from serving.batching import NEVER_NS, Batch, Batcher, Refused, Ticket
from tests.batching.house import SECOND_NS, Engine


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of one row that comes."""

    at_ns: int
    steps: int
    patience_ns: int = NEVER_NS


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that was answered in time, and how long it took."""

    arrival: Arrival
    took_ns: int


@dataclass(slots=True)
class Outcome:
    """What became of every request."""

    answers: list[Answer] = field(default_factory=list)
    late: list[Arrival] = field(default_factory=list)
    refused: list[tuple[Arrival, Refused]] = field(default_factory=list)
    busy_seconds: float = 0.0
    calls: int = 0
    ended_ns: int = 0

    @property
    def admitted(self) -> int:
        """How many were taken."""
        return len(self.answers) + len(self.late)

    def p99_ms(self, *, below_steps: int = 2**31) -> float:
        """Return the 99th percentile of how long answers took, of those with fewer steps."""
        took = [each.took_ns / 1e6 for each in self.answers if each.arrival.steps < below_steps]
        return quantiles(took, n=100)[98]


Next = Callable[[int], Arrival | None]
"""Given the time at which a caller got its answer, its next request."""
Again = Callable[[Arrival, Refused, int], Arrival | None]
"""Given a request, why and when it was refused, its next attempt."""


class Simulation:
    """One run."""

    def __init__(
        self,
        batcher: Batcher,
        engine: Engine,
        *,
        instances: int = 1,
        noise: Callable[[], float] = lambda: 1.0,
        then: Next = lambda _: None,
        again: Again = lambda *_: None,
    ) -> None:
        """Set up a server; `noise` is the ratio of a call's time to the formula's."""
        self._batcher = batcher
        self._engine = engine
        self._free = instances
        self._noise = noise
        self._then = then
        self._again = again
        self._arrivals: dict[int, Arrival] = {}
        self._events: list[tuple[int, int, Arrival | tuple[Batch, float]]] = []
        self._made = 0
        self._newest: Arrival | None = None
        self.outcome = Outcome()

    def run(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Run until everything that comes has left."""
        source = iter(arrivals)
        self._next_from(source)
        while self._events:
            now_ns, _, event = heapq.heappop(self._events)
            self._late(self._batcher.expire(now_ns))
            if isinstance(event, Arrival):
                self._arrive(event, now_ns)
                if event is self._newest:
                    self._next_from(source)
            else:
                self._finish(*event, now_ns)
            if not self._events or self._events[0][0] > now_ns:
                self._start(now_ns)
        assert not self._arrivals, "every ticket leaves"
        self.outcome.ended_ns = now_ns
        return self.outcome

    def _push(self, at_ns: int, event: Arrival | tuple[Batch, float]) -> None:
        self._made += 1
        heapq.heappush(self._events, (at_ns, self._made, event))

    def _next_from(self, source: Iterator[Arrival]) -> None:
        self._newest = next(source, None)
        self._follow(self._newest)

    def _arrive(self, arrival: Arrival, now_ns: int) -> None:
        self._made += 1
        deadline_ns = min(NEVER_NS, now_ns + arrival.patience_ns)
        ticket = Ticket(id=self._made, lengths=(arrival.steps,), enqueued_ns=now_ns, deadline_ns=deadline_ns)
        refused = self._batcher.admit(ticket, now_ns=now_ns)
        if refused is None:
            self._arrivals[ticket.id] = arrival
        else:
            self.outcome.refused.append((arrival, refused))
            self._follow(self._again(arrival, refused, now_ns))

    def _late(self, tickets: Sequence[Ticket]) -> None:
        self.outcome.late += [self._arrivals.pop(ticket.id) for ticket in tickets]

    def _start(self, now_ns: int) -> None:
        while self._free:
            decision = self._batcher.poll(now_ns, free_instances=self._free)
            self._late(decision.expired)
            if decision.batch is None:
                return
            self._free -= 1
            batch = decision.batch
            seconds = self._engine.seconds(batch.rows, batch.steps, batch.real_steps) * self._noise()
            self.outcome.busy_seconds += seconds
            self.outcome.calls += 1
            self._push(now_ns + max(1, round(seconds * SECOND_NS)), (batch, seconds))

    def _finish(self, batch: Batch, seconds: float, now_ns: int) -> None:
        self._free += 1
        for ticket in self._batcher.finished(batch):
            arrival = self._arrivals.pop(ticket.id)
            self.outcome.answers.append(Answer(arrival, now_ns - arrival.at_ns))
            self._follow(self._then(now_ns))
        self._batcher.learn(batch, seconds=seconds)

    def _follow(self, arrival: Arrival | None) -> None:
        if arrival is not None:
            self._push(arrival.at_ns, arrival)


def log_normal_steps(seed: random.Random) -> int:
    """Draw a length: log-normal, median 60, between 10 and 400."""
    return round(min(400.0, max(10.0, seed.lognormvariate(4.1, 0.8))))


def poisson(
    rate: float, seconds: float, steps: Callable[[], int], patience_ns: Callable[[], int], seed: random.Random
) -> Iterator[Arrival]:
    """Yield arrivals that care for nothing but the clock: `rate` per second, for so many seconds."""
    at = seed.expovariate(rate)
    while at < seconds:
        yield Arrival(round(at * SECOND_NS), steps(), patience_ns())
        at += seed.expovariate(rate)
