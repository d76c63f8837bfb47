"""The batcher's promises (see `serving/batching/batcher.py`), as properties over any sequence of events."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.batching import (
    NEVER_NS,
    Batch,
    Batcher,
    EqualLengths,
    Fifo,
    Policy,
    Refusal,
    Stepwise,
    Ticket,
    WholeSequence,
)
from serving.batching.waiting import Waiting
from tests.batching.house import SECOND_NS, Engine, ticket

MAX_BATCH_ROWS = 3
MAX_QUEUE_ROWS = 20
MILLISECOND_NS = 1_000_000
POLICIES = ("stepwise", "stepwise in fixed chunks", "whole sequences", "equal lengths", "fifo")


@dataclass
class Known:
    """What a ticket must look like inside."""

    ticket: Ticket
    done: list[int]
    running: set[int] = field(default_factory=set)

    @property
    def waiting(self) -> set[int]:
        return {row for row, steps in enumerate(self.ticket.lengths) if self.done[row] < steps} - self.running

    @property
    def remaining(self) -> int:
        return sum(self.ticket.lengths) - sum(self.done)


class AnySequenceOfEvents(RuleBasedStateMachine):
    """Everything that may happen, in any order, while time moves; dictionaries beside the batcher know the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.next_id = 1
        self.live: dict[int, Known] = {}
        self.admitted: set[int] = set()
        self.left: dict[int, str] = {}
        self.flying: list[Batch] = []
        self.draining = False

    @initialize(policy=st.sampled_from(POLICIES), instances=st.integers(1, 3), max_rows=st.sampled_from((None, 3, 1)))
    def start(self, *, policy: str, instances: int, max_rows: int | None) -> None:
        self.engine = Engine(call=1e-3, step=1e-3, row_step=1e-4)
        cost = self.cost = self.engine.warm_cost()
        policies: dict[str, Policy] = {
            "stepwise": Stepwise(cost, tick_seconds=4e-3, max_rows=max_rows),
            "stepwise in fixed chunks": Stepwise(cost, tick_seconds=1.0, max_rows=max_rows, steps=2),
            "whole sequences": WholeSequence(cost, max_rows=max_rows),
            "equal lengths": EqualLengths(cost, max_rows=max_rows),
            "fifo": Fifo(cost, max_rows=max_rows),
        }
        self.kind, self.policy, self.instances = policy, policies[policy], instances
        self.batcher = Batcher(self.policy, cost, instances=instances, max_queue_rows=MAX_QUEUE_ROWS)

    @rule(
        lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
        patience_ms=st.one_of(st.none(), st.integers(0, 60)),
        handicap_ms=st.integers(-20, 20),
    )
    def admit(self, *, lengths: list[int], patience_ms: int | None, handicap_ms: int) -> None:
        deadline_ns = NEVER_NS if patience_ms is None else self.now_ns + patience_ms * MILLISECOND_NS
        new = ticket(
            self.next_id,
            *lengths,
            enqueued_ns=self.now_ns,
            deadline_ns=deadline_ns,
            handicap_ns=handicap_ms * MILLISECOND_NS,
        )
        self.next_id += 1
        refused = self.batcher.admit(new, now_ns=self.now_ns)
        if self.draining:
            assert refused is not None
            assert refused.why is Refusal.DRAINING
        elif deadline_ns <= self.now_ns:
            assert refused is not None
            assert refused.why is Refusal.DEADLINE_PASSED
        elif len(self.waiting()) + len(lengths) > MAX_QUEUE_ROWS:
            assert refused is not None
            assert refused.why is Refusal.QUEUE_FULL
            assert refused.retry_ns
        elif refused is not None:
            self.check_refusal_for_time(new, refused.why, refused.retry_ns)
        if refused is None:
            self.live[new.id] = Known(new, [0] * len(lengths))
            self.admitted.add(new.id)

    def check_refusal_for_time(self, new: Ticket, why: Refusal, retry_ns: int | None) -> None:
        if why is Refusal.UNREACHABLE:
            assert retry_ns is None
            assert self.now_ns + self.cost.seconds(1, max(new.lengths)) * SECOND_NS >= new.deadline_ns
        else:
            assert why is Refusal.OVERLOAD
            assert self.live, "an idle server takes whatever can be in time"
            assert retry_ns
            assert any(each.deadline_ns != NEVER_NS for each in (new, *(each.ticket for each in self.live.values())))

    @rule(ahead_ms=st.integers(0, 20))
    def let_time_pass(self, *, ahead_ms: int) -> None:
        self.now_ns += ahead_ms * MILLISECOND_NS

    @rule(ahead=st.integers(1, 12))
    def cancel(self, *, ahead: int) -> None:
        number = self.next_id - ahead
        assert self.batcher.cancel(number) is (number in self.live)
        self.leave(number, "cancelled")

    @rule()
    def expire(self) -> None:
        self.check_expired(self.batcher.expire(self.now_ns))

    @precondition(lambda self: len(self.flying) < self.instances)
    @rule()
    def poll(self) -> None:
        free = self.instances - len(self.flying)
        decision = self.batcher.poll(self.now_ns, free_instances=free)
        self.check_expired(decision.expired)
        assert (decision.batch is None) is (not self.waiting()), "an idle engine never waits, and never runs nothing"
        if decision.batch is not None:
            self.check_batch(decision.batch, free)
            for number, row, *_ in decision.batch.spans:
                self.live[number].running.add(row)
            self.flying.append(decision.batch)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 2), pace=st.one_of(st.none(), st.sampled_from((0.5, 1.0, 1.0, 3.0))))
    def finish(self, *, which: int, pace: float | None) -> None:
        batch = self.flying.pop(which % len(self.flying))
        done = self.batcher.finished(batch)
        if pace is not None:
            self.batcher.learn(batch, seconds=pace * self.engine.seconds(batch.rows, batch.steps))
        for number, row, _, stop in batch.spans:
            if number in self.live:
                self.live[number].done[row] = stop
                self.live[number].running.remove(row)
        whole = {number for number, known in self.live.items() if not known.remaining}
        assert {each.id for each in done} == whole
        assert len(done) == len(whole)
        for number in whole:
            self.leave(number, "answered")

    @precondition(lambda self: self.next_id > 30)
    @rule()
    def drain(self) -> None:
        self.batcher.drain()
        self.draining = True

    @invariant()
    def counters_are_the_truth(self) -> None:
        if not hasattr(self, "batcher"):
            return
        assert self.batcher.live_tickets == len(self.live)
        assert self.batcher.waiting_rows == len(self.waiting())
        unfinished = [
            (known, row) for known in self.live.values() for row, steps in enumerate(known.ticket.lengths)
            if known.done[row] < steps
        ]  # fmt: skip
        assert self.batcher.live_rows == len(unfinished)
        assert self.batcher._live_steps == sum(known.remaining for known in self.live.values())
        assert (self.batcher.backlog_seconds > 0) is bool(self.live)
        deadlines = [known.ticket.deadline_ns for known in self.live.values()]
        assert self.batcher.next_deadline_ns == min(deadlines, default=NEVER_NS)

    def teardown(self) -> None:
        """Drain: everything that was admitted leaves, once, and nothing stays behind."""
        if not hasattr(self, "batcher"):
            return
        self.drain()
        while self.live or self.flying:
            while self.flying:
                self.finish(which=0, pace=1.0)
            self.poll()
            assert self.flying or not self.live, "live tickets wait for nothing"
        self.counters_are_the_truth()
        assert self.left.keys() == self.admitted
        assert not self.batcher._calls

    def waiting(self) -> set[tuple[int, int]]:
        """Name the rows that wait."""
        return {(number, row) for number, known in self.live.items() for row in known.waiting}

    def leave(self, number: int, how: str) -> None:
        """Note that a ticket has left, which it may do once."""
        if self.live.pop(number, None) is not None:
            assert number not in self.left
            self.left[number] = how

    def check_expired(self, expired: tuple[Ticket, ...]) -> None:
        """Check that exactly those left whose deadline has come, the earliest first."""
        late = {number for number, known in self.live.items() if known.ticket.deadline_ns <= self.now_ns}
        assert {each.id for each in expired} == late
        assert len(expired) == len(late)
        assert [each.deadline_ns for each in expired] == sorted(each.deadline_ns for each in expired)
        for number in late:
            self.leave(number, "expired")

    def check_batch(self, batch: Batch, free: int) -> None:
        """Check what any batch must be, and what the policy adds to it."""
        rows = [span[:2] for span in batch.spans]
        assert len(set(rows)) == len(rows)
        assert set(rows) <= self.waiting(), "a row that did not wait ran"
        assert batch.most_rows == self.policy.most_rows()
        assert batch.rows <= min(batch.most_rows, -(-len(self.waiting()) // free))
        assert batch.steps == max(span.steps for span in batch.spans)
        assert batch.rows <= batch.real_steps <= batch.rows * batch.steps
        assert batch.predicted_seconds > 0
        for number, row, start, stop in batch.spans:
            length = self.live[number].ticket.lengths[row]
            assert start == self.live[number].done[row], "a step was left out, or run twice"
            assert stop == min(start + batch.steps, length)
        order = {(each.ticket.id, each.index): each.order for live in self.batcher._live.values() for each in live.rows}
        urgent_first = sorted(self.waiting(), key=order.__getitem__)
        assert urgent_first[0] in rows
        lengths = {self.live[number].ticket.lengths[row] for number, row in rows}
        if self.kind in {"fifo", "stepwise", "stepwise in fixed chunks"}:
            assert rows == urgent_first[: batch.rows]
        if self.kind == "equal lengths":
            assert len(lengths) == 1
        if "stepwise" not in self.kind:
            assert batch.steps == max(lengths)
        if self.kind == "stepwise in fixed chunks":
            assert batch.steps <= 2


AnySequenceOfEvents.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestAnySequenceOfEvents = AnySequenceOfEvents.TestCase


@pytest.mark.parametrize("now_ms", [99, 100])
def test_a_ticket_runs_until_its_deadline_and_expires_at_it(now_ms: int) -> None:
    cost = Engine().warm_cost()
    batcher = Batcher(Stepwise(cost, tick_seconds=0.01), cost, max_queue_rows=9)
    assert batcher.admit(ticket(1, deadline_ns=100 * MILLISECOND_NS), now_ns=0) is None

    decision = batcher.poll(now_ms * MILLISECOND_NS)

    assert (decision.batch is None) is bool(decision.expired) is (now_ms == 100)


def test_tickets_whose_deadline_has_come_keep_nobody_out_until_they_are_let_go() -> None:
    cost = Engine(call=1e-3, step=1e-3, row_step=1e-4).warm_cost()
    batcher = Batcher(Stepwise(cost, tick_seconds=4e-3), cost, max_queue_rows=99)
    first = ticket(1, 2, 3, deadline_ns=12 * MILLISECOND_NS, handicap_ns=-20 * MILLISECOND_NS)
    second = ticket(2, 1, 1, 1, 1, 1, 2, enqueued_ns=6 * MILLISECOND_NS, deadline_ns=10 * MILLISECOND_NS)
    assert batcher.admit(first, now_ns=0) is None
    batcher.admit(second, now_ns=6 * MILLISECOND_NS)

    patient = ticket(3, 1, 1, 1, 1, 1, 1, enqueued_ns=13 * MILLISECOND_NS)
    assert batcher.admit(patient, now_ns=13 * MILLISECOND_NS) is None


def test_an_idle_server_tries_a_hopeless_ticket_once_in_a_while() -> None:
    """A wrong belief about the engine's speed could otherwise never be corrected."""
    cost = Engine().warm_cost()
    batcher = Batcher(Stepwise(cost, tick_seconds=0.01), cost, max_queue_rows=9)

    refusals = []
    for second in (0.0, 0.5, 1.0):
        now_ns = int(second * 1e9)
        refused = batcher.admit(ticket(int(second * 2), 400, deadline_ns=now_ns + MILLISECOND_NS), now_ns=now_ns)
        refusals.append(None if refused is None else refused.why)
        batcher.cancel(int(second * 2))

    assert refusals == [None, Refusal.UNREACHABLE, None]


@pytest.mark.parametrize("running", [False, True])
def test_a_deadline_shorter_than_a_tick_is_met_where_all_rows_are(running: bool) -> None:
    """A call lasts no longer than its longest row: 2 ms here, of the 25 that it might."""
    cost = Engine().warm_cost()
    batcher = Batcher(Stepwise(cost, tick_seconds=0.025), cost, max_queue_rows=99)
    for number in range(8):
        assert batcher.admit(ticket(number, 20, deadline_ns=10 * MILLISECOND_NS), now_ns=0) is None
    if running:
        assert batcher.poll(0).batch is not None

    assert batcher.admit(ticket(8, 20, deadline_ns=10 * MILLISECOND_NS), now_ns=0) is None
    assert batcher.admit(ticket(9, 400, deadline_ns=10 * MILLISECOND_NS), now_ns=0) is not None


def test_deadlines_of_tickets_that_left_long_before_them_are_forgotten() -> None:
    """Hours of patience and a thousand answers a second would otherwise fill the memory."""
    cost = Engine().warm_cost()
    batcher = Batcher(Stepwise(cost, tick_seconds=0.01), cost, max_queue_rows=9)

    for number in range(1000):
        assert batcher.admit(ticket(number, deadline_ns=3600 * SECOND_NS), now_ns=0) is None
        batch = batcher.poll(0).batch
        assert batch is not None
        batcher.finished(batch)

    assert len(batcher._deadlines) < 100


@pytest.mark.parametrize("kind", [Stepwise, WholeSequence, EqualLengths, Fifo])
def test_without_deadlines_nothing_that_happens_walks_through_the_queue(
    kind: type[Stepwise | WholeSequence | EqualLengths | Fifo], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Engine().warm_cost()
    policy = Stepwise(cost, tick_seconds=0.01) if kind is Stepwise else kind(cost)
    batcher = Batcher(policy, cost, max_queue_rows=9999)
    for number in range(3000):
        assert batcher.admit(ticket(number, number % 7 + 20), now_ns=0) is None
    assert batcher.poll(0).batch is not None
    monkeypatch.setattr(Waiting, "__iter__", lambda _: pytest.fail("walks through the queue"))

    for number in range(3000, 3100):
        assert batcher.admit(ticket(number, number % 7 + 20), now_ns=0) is None
        batcher.cancel(number - 1000)
        batch = batcher.poll(0).batch
        assert batch is not None
        batcher.finished(batch)
        batcher.learn(batch, seconds=batch.predicted_seconds)
