"""The batcher's promises (see `serving/batching/batcher.py`), as properties over any sequence of events."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.batching import NEVER_NS, Batch, Batcher, Limits, Refusal, Ticket

MAX_BATCH_ROWS = 4
MAX_QUEUE_ROWS = 12


def ticket(number: int, *, rows: int = 1, steps: int = 5, deadline_ns: int = NEVER_NS) -> Ticket:
    """Make a ticket that arrived at its number's nanosecond."""
    return Ticket(id=number, rows=rows, steps=steps, enqueued_ns=number, deadline_ns=deadline_ns)


def batcher_with(*tickets: Ticket, mixed_lengths: bool = True) -> Batcher:
    """Make a batcher that holds the tickets."""
    batcher = Batcher(Limits(max_batch_rows=MAX_BATCH_ROWS, max_queue_rows=MAX_QUEUE_ROWS, mixed_lengths=mixed_lengths))
    for each in tickets:
        assert batcher.admit(each, now_ns=0) is None
    return batcher


def run_ids(batch: Batch | None) -> list[int]:
    """Name the tickets of a batch."""
    return [] if batch is None else [each.id for each in batch.tickets]


class AnySequenceOfEvents(RuleBasedStateMachine):
    """Admit, cancel, poll and drain in any order while time moves; a dictionary beside the batcher knows the truth."""

    @initialize(mixed_lengths=st.booleans())
    def start(self, *, mixed_lengths: bool) -> None:
        self.limits = Limits(max_batch_rows=MAX_BATCH_ROWS, max_queue_rows=MAX_QUEUE_ROWS, mixed_lengths=mixed_lengths)
        self.batcher = Batcher(self.limits)
        self.now_ns = 0
        self.next_id = 1
        self.waiting: dict[int, Ticket] = {}
        self.draining = False

    @rule(
        rows=st.integers(1, MAX_BATCH_ROWS + 2),
        steps=st.integers(1, 3),
        patience_ns=st.one_of(st.just(NEVER_NS), st.integers(0, 8)),
    )
    def admit(self, *, rows: int, steps: int, patience_ns: int) -> None:
        deadline_ns = min(self.now_ns + patience_ns, NEVER_NS)
        new = ticket(self.next_id, rows=rows, steps=steps, deadline_ns=deadline_ns)
        self.next_id += 1
        refusal = self.batcher.admit(new, now_ns=self.now_ns)
        full = sum(each.rows for each in self.waiting.values()) + rows > MAX_QUEUE_ROWS
        if self.draining:
            assert refusal is Refusal.DRAINING
        elif deadline_ns <= self.now_ns:
            assert refusal is Refusal.DEADLINE_PASSED
        elif full:
            assert refusal is Refusal.QUEUE_FULL
        else:
            assert refusal is None
            self.waiting[new.id] = new

    @rule(ahead=st.integers(0, 5))
    def let_time_pass(self, *, ahead: int) -> None:
        self.now_ns += ahead

    @rule(number=st.integers(1, 30))
    def cancel(self, *, number: int) -> None:
        assert self.batcher.cancel(number) is (number in self.waiting)
        self.waiting.pop(number, None)

    @rule()
    def poll(self) -> None:
        decision = self.batcher.poll(self.now_ns)
        late = [each for each in self.waiting.values() if each.deadline_ns <= self.now_ns]
        assert list(decision.expired) == late
        for each in late:
            del self.waiting[each.id]
        assert (decision.batch is None) is (not self.waiting), "an idle engine never waits, and never runs nothing"
        if decision.batch is not None:
            self.check_batch(decision.batch)
            for each in decision.batch.tickets:
                assert self.waiting.pop(each.id) is each, "a ticket that was not waiting ran"

    def check_batch(self, batch: Batch) -> None:
        oldest, *others = batch.tickets
        assert oldest is next(iter(self.waiting.values()))
        assert batch.rows <= MAX_BATCH_ROWS or not others
        assert self.limits.mixed_lengths or {each.steps for each in others} <= {oldest.steps}
        assert 0 < batch.padding_efficiency <= 1
        chosen = set(run_ids(batch))
        room = MAX_BATCH_ROWS - batch.rows
        passed_over = [each for each in self.waiting.values() if each.id not in chosen]
        same_length = [each for each in passed_over if self.limits.mixed_lengths or each.steps == oldest.steps]
        assert all(each.rows > room for each in same_length), "a ticket that would fit was left behind"

    @precondition(lambda self: self.next_id > 20)
    @rule()
    def drain(self) -> None:
        self.batcher.drain()
        self.draining = True

    @invariant()
    def rows_are_counted(self) -> None:
        if hasattr(self, "batcher"):
            assert self.batcher.queued_rows == sum(each.rows for each in self.waiting.values()) <= MAX_QUEUE_ROWS


AnySequenceOfEvents.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnySequenceOfEvents = AnySequenceOfEvents.TestCase


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=30))
def test_polling_a_drained_batcher_empties_it(sizes: list[tuple[int, int]]) -> None:
    """Everything admitted before a drain runs after it, each ticket once."""
    batcher = Batcher(Limits(max_batch_rows=MAX_BATCH_ROWS, max_queue_rows=10_000))
    for number, (rows, steps) in enumerate(sizes):
        batcher.admit(ticket(number, rows=rows, steps=steps), now_ns=0)
    batcher.drain()
    ran: list[int] = []
    while (decision := batcher.poll(1)).batch is not None:
        ran += run_ids(decision.batch)

    assert sorted(ran) == list(range(len(sizes)))
    assert batcher.queued_rows == 0


def test_a_batch_looks_past_a_ticket_that_does_not_fit() -> None:
    """Three rows wait first; four do not fit beside them, the single row behind does."""
    batcher = batcher_with(ticket(1, rows=3), ticket(2, rows=4), ticket(3, rows=1))

    assert run_ids(batcher.poll(1).batch) == [1, 3]
    assert run_ids(batcher.poll(1).batch) == [2]


def test_a_ticket_larger_than_a_batch_runs_alone() -> None:
    batcher = batcher_with(ticket(1, rows=MAX_BATCH_ROWS + 3), ticket(2))

    assert run_ids(batcher.poll(1).batch) == [1]


def test_without_mixed_lengths_only_equal_lengths_share_a_batch() -> None:
    batcher = batcher_with(ticket(1, steps=5), ticket(2, steps=6), ticket(3, steps=5), mixed_lengths=False)

    assert run_ids(batcher.poll(1).batch) == [1, 3]


def test_a_ticket_runs_until_its_deadline_and_expires_at_it() -> None:
    assert run_ids(batcher_with(ticket(1, deadline_ns=100)).poll(99).batch) == [1]

    decision = batcher_with(ticket(1, deadline_ns=100)).poll(100)
    assert [each.id for each in decision.expired] == [1]
    assert decision.batch is None


def test_padding_efficiency_is_steps_asked_for_over_steps_computed() -> None:
    batch = Batch(tickets=(ticket(1, rows=2, steps=10), ticket(2, rows=2, steps=5)))

    assert batch.padding_efficiency == 0.75
