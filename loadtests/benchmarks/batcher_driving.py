"""A batcher driven as the runner does it, in virtual time, and the CPU time that its calls took."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import thread_time
from typing import Literal, TypeVar

from serving.batching import NEVER_NS, Batch, Batcher, CostModel, EqualLengths, Policy, Stepwise, Ticket, WholeSequence

SHORTEST, LONGEST = 10, 200
MEAN_STEPS = (SHORTEST + LONGEST) / 2
"""Of a row."""
CALL_SECONDS, STEP_SECONDS, ROW_STEP_SECONDS = 2e-4, 5e-5, 5e-6
"""Of the engine that there is not: it takes exactly so long."""
TICK_SECONDS = 0.01
OFFERED = 5
"""Tickets that come for each that could be answered, under overload."""
NANOSECONDS = 1_000_000_000
SEED = 5
KINDS = ("admit", "poll", "finished", "learn", "cancel")
"""Of calls, as the batcher names them."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of a batcher.

    Attributes:
        policy: which rows share a call.
        live: tickets at a time; under overload about as many, since the deadlines allow for no more.
        deadlines: none, far ones that all tickets meet, or an overload: many more come than can be answered in time.
        cancelled: of the tickets, the share whose caller goes away before the answer.
    """

    policy: Literal["stepwise", "whole", "equal"]
    live: int
    deadlines: Literal["none", "met", "overload"] = "none"
    cancelled: float = 0.0

    @property
    def name(self) -> str:
        """What tells it from the others."""
        kinds = {"none": "", "met": ", deadlines", "overload": ", overload"}
        return f"{self.policy}, {self.live:,}{kinds[self.deadlines]}{', cancelled' if self.cancelled else ''}"


@dataclass(slots=True)
class Costs:
    """What calls of each kind took in seconds of the CPU, and how many tickets they served."""

    offered: int = 0
    refused: int = 0
    left: int = 0
    cancelled: int = 0
    calls: int = 0
    rows: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    @property
    def refused_share(self) -> float:
        """Of the tickets that came."""
        return self.refused / max(1, self.offered)

    @property
    def rows_per_call(self) -> float:
        """Rows of an engine call, the mean."""
        return self.rows / self.calls

    @property
    def microseconds(self) -> list[float | None]:
        """By kind of call; admit per ticket that came, cancel per ticket cancelled, else per ticket that left."""
        tickets = {"admit": self.offered, "cancel": self.cancelled}
        counts = [tickets.get(kind, self.left) for kind in KINDS]
        return [self.seconds[kind] / count * 1e6 if count else None for kind, count in zip(KINDS, counts, strict=True)]

    @property
    def total_us(self) -> float:
        """Microseconds of all calls, per ticket that left."""
        return sum(self.seconds.values()) / self.left * 1e6


class _Loop:
    """Callers that send the next ticket when they have the answer to the last, or, under overload, regardless of it."""

    def __init__(self, workload: Workload) -> None:
        self._random = random.Random(SEED)  # noqa: S311  nothing here is a secret
        self._workload = workload
        cost = CostModel()
        cost.warm_start([(rows, steps, _engine_seconds(rows, steps)) for rows in (1, 32) for steps in (1, 12, 100)])
        policies: dict[str, Callable[[], Policy]] = {
            "stepwise": lambda: Stepwise(cost, tick_seconds=TICK_SECONDS),
            "whole": lambda: WholeSequence(cost),
            "equal": lambda: EqualLengths(cost),
        }
        self._batcher = Batcher(policies[workload.policy](), cost, max_queue_rows=2 * workload.live)
        self._patience_ns = int(workload.live * MEAN_STEPS * 2 * ROW_STEP_SECONDS * NANOSECONDS)
        self._now_ns = 0
        self._made = 0
        self._answered = 0
        self._leaving: list[tuple[int, int]] = []  # (after how many answers, ticket)
        self.costs = Costs()
        self._admit(workload.live, over_ns=0)

    def turn(self) -> None:
        """Make one engine call: what comes meanwhile, what it answers, who does not wait for the answer."""
        overload = self._workload.deadlines == "overload"
        (batch,) = self._timed("poll", [self._now_ns], self._poll)
        if batch is None:
            self._admit(1, over_ns=0)
            return
        seconds = _engine_seconds(batch.rows, batch.steps)
        self._admit(
            round(OFFERED * batch.real_steps / MEAN_STEPS) if overload else 0, over_ns=int(seconds * NANOSECONDS)
        )
        (done,) = self._timed("finished", [batch], self._batcher.finished)
        self._timed("learn", [batch], lambda each: self._batcher.learn(each, seconds=seconds))
        self._answered += len(done)
        self.costs.left += len(done)
        self.costs.calls += 1
        self.costs.rows += batch.rows
        gone = len(done) + self._cancel()
        if not overload:
            self._admit(gone, over_ns=0)

    def _poll(self, now_ns: int) -> Batch | None:
        decision = self._batcher.poll(now_ns)
        self.costs.left += len(decision.expired)
        return decision.batch

    def _admit(self, count: int, *, over_ns: int) -> None:
        """Let tickets come, evenly over a stretch of time, which passes."""
        tickets = [self._ticket(self._now_ns + over_ns * number // count) for number in range(count)]
        self._now_ns += over_ns
        refused = self._timed("admit", tickets, lambda ticket: self._batcher.admit(ticket, now_ns=ticket.enqueued_ns))
        self.costs.offered += count
        self.costs.refused += count - refused.count(None)

    def _ticket(self, now_ns: int) -> Ticket:
        self._made += 1
        deadline_ns = NEVER_NS
        if self._workload.deadlines != "none":
            times = 100.0 if self._workload.deadlines == "met" else self._random.uniform(0.5, 1.5)
            deadline_ns = now_ns + int(times * self._patience_ns)
        if self._random.random() < self._workload.cancelled:
            self._leaving.append((self._answered + self._workload.live // 2, self._made))
        steps = self._random.randint(SHORTEST, LONGEST)
        return Ticket(id=self._made, lengths=(steps,), enqueued_ns=now_ns, deadline_ns=deadline_ns)

    def _cancel(self) -> int:
        """Let those go whose callers have gone by now; returns how many had not been answered."""
        due = sum(answers <= self._answered for answers, _ in self._leaving)
        gone = [ticket for _, ticket in self._leaving[:due]]
        del self._leaving[:due]
        cancelled = sum(self._timed("cancel", gone, self._batcher.cancel))
        self.costs.cancelled += cancelled
        return cancelled

    def _timed(self, kind: str, items: Iterable[Item], call: Callable[[Item], Result]) -> list[Result]:
        started = thread_time()
        results = [call(item) for item in items]
        self.costs.seconds[kind] += thread_time() - started
        return results


def drive(workload: Workload, tickets: int) -> Costs:
    """Fill a batcher, let some of that leave, then at least so many tickets more; returns what those cost."""
    loop = _Loop(workload)
    settled = min(tickets, workload.live)
    while loop.costs.left < settled:
        loop.turn()
    loop.costs = Costs()
    while loop.costs.left < tickets:
        loop.turn()
    return loop.costs


def _engine_seconds(rows: int, steps: int) -> float:
    return CALL_SECONDS + STEP_SECONDS * steps + ROW_STEP_SECONDS * rows * steps
