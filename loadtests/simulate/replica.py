"""One replica: the shipped batcher, an engine that is a table, and a front that wants the same core.

Mirrors `serving.runner.Runner`: what it does with its batcher, and when, a test compares.
"""

import random
from collections.abc import Sequence
from functools import partial

from loadtests.simulate.costs import EngineCost, ModelCost
from loadtests.simulate.events import NANOSECONDS, Loop, to_ns
from loadtests.simulate.front import Front, Refused
from loadtests.simulate.processor import Processor, Thread
from loadtests.simulate.requests import OUTCOME_OF, Outcome, Request
from serving.batching import NEVER_NS, Batch, Batcher, CostModel, Fifo, Stepwise, Ticket, WholeSequence
from serving.batching import Policy as BatchingPolicy
from serving.policy import Policy

WARM_UP_STEPS = (1, 8, 64)
WARM_UP_ROWS = 16
"""Shapes of the calls that `serving.app` makes when it loads a model."""
COMPUTING_WEIGHT = 655.0
"""Of a thread of nice level 2, on which `serving.engine.priority` computes (the kernel's sched_prio_to_weight)."""


def batching_policy(policy: Policy, cost: CostModel, *, stepwise: bool) -> BatchingPolicy:
    """Return the shipped policy that `serving.app` chooses for a model."""
    if policy.batching == "fifo":
        return Fifo(cost, max_rows=policy.max_batch_rows)
    if stepwise:
        tick_seconds = policy.tick_ms / 1000
        return Stepwise(cost, tick_seconds=tick_seconds, max_rows=policy.max_batch_rows, steps=policy.chunk_steps)
    return WholeSequence(cost, max_rows=policy.max_batch_rows)


def warm_cost(engine: EngineCost, policy: Policy, *, speed: float = 1.0) -> CostModel:
    """Return a cost model that has seen the calls of a warm-up, and nothing else of the truth."""
    most = policy.max_batch_rows or WARM_UP_ROWS
    shapes = sorted({(rows, steps) for rows in (1, min(WARM_UP_ROWS, most)) for steps in WARM_UP_STEPS})
    cost = CostModel()
    cost.warm_start([(rows, steps, engine.seconds(rows, steps) / speed) for rows, steps in shapes])
    return cost


def capacity(costs: ModelCost, policy: Policy, lengths: Sequence[int], *, stepwise: bool) -> float:
    """Return the requests per second that one replica answers when as many wait as a batch can take, and more."""
    loop = Loop()
    roomy = policy.model_copy(update={"max_queue_rows": max(policy.max_queue_rows, len(lengths))})
    replica = Replica(loop, costs, roomy, ended=lambda *_: None, seed=0, stepwise=stepwise, max_inflight=len(lengths))
    for number, steps in enumerate(lengths):
        replica.arrive(Request(number, steps, 0))
    loop.run()
    return len(lengths) * NANOSECONDS / loop.now_ns


class _Instance:
    """One of the engine's, and its thread."""

    __slots__ = ("free_since_ns", "thread")

    def __init__(self) -> None:
        self.thread = Thread(COMPUTING_WEIGHT)
        self.free_since_ns = -1
        """When it became free for the work that waits; -1 if none waited then."""


class Replica:
    """From arrival to answer; each request that arrives ends exactly once, by a call of `ended`.

    Attributes:
        batcher: the shipped one.
        processor: the cores, which the front shares.
        cores: so many: one for each instance.
        batches: engine calls so far.
        batch_rows: rows in them.
        engine_ns: nanoseconds of a core that they take.
    """

    def __init__(  # noqa: PLR0913  the parts it brings together
        self,
        loop: Loop,
        costs: ModelCost,
        policy: Policy,
        *,
        ended: Refused,
        seed: int,
        stepwise: bool = True,
        speed: float = 1.0,
        max_inflight: int = 256,
    ) -> None:
        """Be ready, with a cost model that is warm.

        Args:
            loop: tells the time.
            costs: the truth.
            policy: the model's `model.yaml`.
            ended: is told of every request what became of it.
            seed: of the noise of engine calls.
            stepwise: whether the model carries its state from chunk to chunk.
            speed: of its cores; 0.5 takes twice as long for everything.
            max_inflight: requests that may be under way (`--max-inflight-requests`).
        """
        self._loop = loop
        self._engine = costs.engine
        self._noise = random.Random(seed)  # noqa: S311  no secret
        self._ended = ended
        self._max_inflight = max_inflight
        self._admitted = 0
        cost = warm_cost(costs.engine, policy, speed=speed)
        self.batcher = Batcher(
            batching_policy(policy, cost, stepwise=stepwise),
            cost,
            max_queue_rows=policy.max_queue_rows,
            instances=policy.instances,
        )
        self.cores = policy.instances
        self.processor = Processor(loop, cores=self.cores, speed=speed)
        self._front = Front(loop, self.processor, costs.front, put=self._put, refused=self._end, written=self._written)
        self._idle = [_Instance() for _ in range(policy.instances)]
        self._free_instances = policy.instances
        self._requests: dict[int, Request] = {}
        self._live: set[Request] = set()
        self._tickets = 0
        self._alarm_ns = NEVER_NS
        self._killed = False
        self.batches = 0
        self.batch_rows = 0
        self.engine_ns = 0

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and not ended."""
        return len(self._live)

    def arrive(self, request: Request) -> None:
        """Take a call, which has come now."""
        self._live.add(request)
        self._front.arrive(request)

    def kill(self) -> list[Request]:
        """Be gone at once; returns the requests that were there, of which nothing becomes here."""
        self._killed = True
        self.processor.switch_off()
        lost = sorted(self._live, key=lambda request: request.number)
        self._live.clear()
        return lost

    def _end(self, request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        self._live.discard(request)
        self._ended(request, outcome, retry_ns)

    def _written(self, request: Request, outcome: Outcome) -> None:
        self._admitted -= 1
        self._end(request, outcome, None)

    def _put(self, request: Request) -> tuple[Outcome, int | None] | None:
        """Mirror `Runner.put`, and the slots in front of it."""
        if self._admitted >= self._max_inflight:
            return Outcome.QUEUE_FULL, None
        now_ns = self._loop.now_ns
        self._tickets += 1
        ticket = Ticket(id=self._tickets, lengths=(request.steps,), enqueued_ns=now_ns, deadline_ns=request.deadline_ns)
        refused = self.batcher.admit(ticket, now_ns=now_ns)
        if refused is not None:
            return OUTCOME_OF[refused.why], refused.retry_ns
        self._admitted += 1
        self._requests[ticket.id] = request
        if ticket.deadline_ns < self._alarm_ns:
            self._alarm_ns = ticket.deadline_ns
            self._loop.at(ticket.deadline_ns, self._expire, ticket.deadline_ns)
        if self._idle:
            self._take_turn(self._idle.pop())
        return None

    def _expire(self, at_ns: int) -> None:
        """Mirror `Runner.expire`, which a thread calls at the earliest deadline."""
        if at_ns != self._alarm_ns or self._killed:
            return
        self._fail_late(self.batcher.expire(at_ns))
        self._alarm_ns = self.batcher.next_deadline_ns
        if self._alarm_ns != NEVER_NS:
            self._loop.at(self._alarm_ns, self._expire, self._alarm_ns)

    def _take_turn(self, instance: _Instance) -> None:
        """Mirror `Runner._loop` and, up to the engine's call, `Runner.step`; idle when no rows wait."""
        if not self.batcher.waiting_rows:
            instance.free_since_ns = -1
            self._idle.append(instance)
            return
        now_ns = self._loop.now_ns
        decision = self.batcher.poll(now_ns, free_instances=self._free_instances)
        self._fail_late(decision.expired)
        batch = decision.batch
        if batch is None:
            self._take_turn(instance)
            return
        self._free_instances -= 1
        self.batches += 1
        self.batch_rows += batch.rows
        if instance.free_since_ns < 0:
            instance.free_since_ns = now_ns
        engine = self._engine
        seconds = engine.seconds(batch.rows, batch.steps)
        if engine.noise:
            seconds *= self._noise.lognormvariate(-engine.noise * engine.noise / 2, engine.noise)
        work_ns = max(1, to_ns(seconds))
        self.engine_ns += work_ns
        self.processor.run(instance.thread, work_ns, partial(self._finish, instance, batch))

    def _finish(self, instance: _Instance, batch: Batch) -> None:
        """Mirror `Runner._finish`."""
        now_ns = self._loop.now_ns
        self._free_instances += 1
        for ticket in self.batcher.finished(batch):
            late = ticket.deadline_ns <= now_ns
            self._reply(ticket.id, Outcome.DEADLINE if late else Outcome.OK)
        self.batcher.learn(batch, seconds=(now_ns - instance.free_since_ns) / NANOSECONDS)
        instance.free_since_ns = now_ns
        self._take_turn(instance)

    def _fail_late(self, tickets: tuple[Ticket, ...]) -> None:
        for ticket in tickets:
            self._reply(ticket.id, Outcome.DEADLINE)

    def _reply(self, ticket_id: int, outcome: Outcome) -> None:
        self._front.reply(self._requests.pop(ticket_id), outcome)
