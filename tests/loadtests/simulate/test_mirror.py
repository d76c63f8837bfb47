"""A simulated replica asks of the batcher what the real runner asks, at the same times, and so gets the same answers."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from loadtests.simulate.events import Loop, to_ns
from loadtests.simulate.front import ACCEPTING
from loadtests.simulate.replica import (
    COMPUTING_WEIGHT,
    WARM_UP_ROWS,
    WARM_UP_STEPS,
    Replica,
    batching_policy,
    warm_cost,
)
from loadtests.simulate.requests import OUTCOME_OF, Outcome, Request
from serving import loader
from serving.batching import Batch, Batcher, CostModel, Decision, Policy, Refused, Ticket
from serving.engine.priority import NICENESS
from serving.engine.turns import Turns
from serving.errors import DeadlineExceeded, Overloaded, QueueFull, ServingError
from serving.manifest import Manifest, read_manifest
from serving.policy import Policy as ModelPolicy
from serving.runner import Runner
from serving.wire import completions
from tests.loadtests.simulate.house import ENGINE, FREE_FRONT, MS, cost_of, policy_of
from tests.runner.house import Figures, ManualClock, SummingEngine, rows_of
from tests.runner.house import Outcome as Kept
from tests.support.artefacts import write_lstm

OUTCOMES: dict[type[ServingError], Outcome] = {
    DeadlineExceeded: Outcome.DEADLINE,
    Overloaded: Outcome.OVERLOAD,
    QueueFull: Outcome.QUEUE_FULL,
}


class Recording(Batcher):
    """A batcher that keeps what was asked of it, and what it said."""

    def __init__(self, policy: Policy, cost: CostModel, *, max_queue_rows: int) -> None:
        super().__init__(policy, cost, max_queue_rows=max_queue_rows)
        self.said: list[tuple[object, ...]] = []

    def admit(self, ticket: Ticket, *, now_ns: int) -> Refused | None:
        refused = super().admit(ticket, now_ns=now_ns)
        self.said.append(("admit", now_ns, ticket.id, tuple(ticket.lengths), ticket.deadline_ns, refused))
        return refused

    def expire(self, now_ns: int) -> tuple[Ticket, ...]:
        expired = super().expire(now_ns)
        if expired:
            self.said.append(("expire", now_ns, [ticket.id for ticket in expired]))
        return expired

    def poll(self, now_ns: int, *, free_instances: int = 1) -> Decision:
        decision = super().poll(now_ns, free_instances=free_instances)
        if decision.batch:
            self.said.append(("poll", now_ns, free_instances, decision.batch))
        return decision

    def learn(self, batch: Batch, *, seconds: float) -> None:
        super().learn(batch, seconds=seconds)
        self.said.append(("learn", batch.spans, round(seconds * 1e9)))


@dataclass(frozen=True)
class Call:
    at_ns: int
    steps: int
    patience_ns: int


class RunnerInVirtualTime:
    """The real runner, with a clock that moves when told and an engine that moves it by what a call costs."""

    def __init__(self, manifest: Manifest, policy: ModelPolicy) -> None:
        cost = warm_cost(ENGINE, policy)
        self.batcher = Recording(
            batching_policy(policy, cost, stepwise=manifest.stepwise), cost, max_queue_rows=policy.max_queue_rows
        )
        self.clock = ManualClock()
        self.engine = SummingEngine()
        self.engine.during = self._compute
        self.kept: list[Kept] = []
        self._calls: deque[Call] = deque()
        self.runner = Runner(
            manifest=manifest,
            policy=policy,
            engine=self.engine,
            batcher=self.batcher,
            turns=Turns(1),
            clock=self.clock,
            metrics=Figures(),
        )

    def run(self, calls: Sequence[Call]) -> None:
        self._calls = deque(calls)
        free_since_ns = None
        while self._calls or self.batcher.live_tickets:
            if self.batcher.waiting_rows:
                self.runner.step(free_since_ns=free_since_ns)
                free_since_ns = self.clock.ns if self.batcher.waiting_rows else None
            else:
                self._pass_time(self._calls[0].at_ns)

    def _compute(self) -> None:
        rows, steps = self.engine.calls[-1]
        self._pass_time(self.clock.ns + to_ns(ENGINE.seconds(rows, steps)))

    def _pass_time(self, until_ns: int) -> None:
        while True:
            arrival_ns = self._calls[0].at_ns if self._calls else until_ns + 1
            next_ns = min(arrival_ns, self.batcher.next_deadline_ns)
            if next_ns > until_ns:
                break
            self.clock.ns = next_ns
            if next_ns == arrival_ns:
                self._put(self._calls.popleft())
            else:
                self.runner.expire()
        self.clock.ns = until_ns

    def _put(self, call: Call) -> None:
        self.kept.append(Kept())
        try:
            deadline_ns = call.at_ns + call.patience_ns
            self.runner.put(rows_of(1, [call.steps]), self.kept[-1], deadline_ns=deadline_ns)
        except ServingError as error:
            self.kept[-1].fail(error)


def random_calls(seed: int) -> list[Call]:
    """Somewhat more than the engine can do, some of them in a hurry, so that everything happens."""
    draw = random.Random(seed)  # noqa: S311  no secret
    at, calls = 0.0, []
    for _ in range(300):
        at += draw.expovariate(1200.0)
        steps = round(min(200, max(2, draw.lognormvariate(3.5, 0.8))))
        calls.append(Call(to_ns(at), steps, to_ns(draw.choice([0.02, 0.06, 0.3]) * draw.uniform(0.9, 1.1))))
    return calls


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Manifest]:
    return {
        stepwise: read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=stepwise))
        for stepwise in (True, False)
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("stepwise", "settings"),
    [
        (True, {}),
        (True, {"tick_ms": 2.0, "max_batch_rows": 6}),
        (False, {"max_batch_rows": 8}),
        (False, {"batching": "fifo", "max_batch_rows": 4, "max_queue_rows": 8, "max_request_rows": 8}),
    ],
    ids=["stepwise", "stepwise, short ticks", "whole", "fifo, short queue"],
)
def test_a_simulated_replica_does_what_the_runner_does(
    manifests: dict[bool, Manifest], stepwise: bool, settings: dict[str, object], seed: int
) -> None:
    calls, policy = random_calls(seed), policy_of(**settings)
    real = RunnerInVirtualTime(manifests[stepwise], policy)
    real.run(calls)

    loop, ended = Loop(), dict[int, Outcome]()

    def end(request: Request, outcome: Outcome, retry_ns: int | None) -> None:
        del retry_ns
        ended[request.number] = outcome

    replica = Replica(loop, cost_of(front=FREE_FRONT), policy, ended=end, seed=0, stepwise=stepwise, max_inflight=10**6)
    cost = warm_cost(ENGINE, policy)
    batching = batching_policy(policy, cost, stepwise=stepwise)
    replica.batcher = told = Recording(batching, cost, max_queue_rows=policy.max_queue_rows)
    for number, call in enumerate(calls):
        loop.at(call.at_ns, replica.arrive, Request(number, call.steps, call.at_ns, call.patience_ns))
    loop.run()

    assert told.said == real.batcher.said
    outcomes = [Outcome.OK if kept.answers else OUTCOMES[type(kept.error)] for kept in real.kept]
    assert [ended[number] for number in range(len(calls))] == outcomes
    assert len(set(outcomes)) > 1, "not everything was answered"
    assert replica.in_flight == 0


def test_the_simulator_warms_up_and_batches_as_the_server_does(manifests: dict[bool, Manifest]) -> None:
    for settings in ({}, {"batching": "fifo"}, {"max_batch_rows": 4}):
        policy = policy_of(**settings)
        for stepwise, manifest in manifests.items():
            cost = CostModel()
            theirs, ours = loader._batching(manifest, policy, cost), batching_policy(policy, cost, stepwise=stepwise)
            assert type(ours) is type(theirs)
            assert ours.most_rows() == theirs.most_rows()
            assert ours.chunk_steps(3) == theirs.chunk_steps(3)
        rows = {1, min(WARM_UP_ROWS, policy.max_batch_rows or WARM_UP_ROWS)}
        shapes = {(each, steps) for each in rows for steps in WARM_UP_STEPS}
        assert shapes <= set(loader._warm_up_shapes(policy))


def test_constants_of_the_server_are_the_simulators() -> None:
    assert completions.ACCEPTING == ACCEPTING
    assert NICENESS == 2, "the kernel's weight of another nice level is another"
    assert COMPUTING_WEIGHT == 655
    assert set(OUTCOME_OF.values()) <= set(Outcome)


def test_a_queue_of_refusals_carries_the_servers_hint() -> None:
    loop, hints = Loop(), []
    policy = policy_of(max_queue_rows=1, max_request_rows=1, max_batch_rows=1)
    replica = Replica(
        loop, cost_of(front=FREE_FRONT), policy, ended=lambda _, outcome, retry: hints.append((outcome, retry)), seed=0
    )
    for number in range(3):
        replica.arrive(Request(number, 100, 0))

    (refusal,) = hints
    assert refusal[0] is Outcome.QUEUE_FULL
    assert refusal[1] is not None
    assert refusal[1] > MS
