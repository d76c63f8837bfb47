"""A refusal out of memory is one that the timetable would give as well."""

import copy

import pytest

from serving.batching import Batcher, Refusal, Stepwise, Ticket, WholeSequence
from tests.batching.house import SECOND_NS, Engine, seeded

ENGINE = Engine()


@pytest.mark.parametrize("kind", [Stepwise, WholeSequence])
@pytest.mark.parametrize("max_rows", [4, 64])
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_refused_from_memory_is_refused_anew(
    kind: type[Stepwise | WholeSequence], max_rows: int, rows: int
) -> None:
    """Bursts of tickets of any urgency upon any load; the twin forgets what was refused before each."""
    seed, remembered = seeded(1), 0
    cost = ENGINE.warm_cost()
    policy = (
        Stepwise(cost, tick_seconds=0.01, max_rows=max_rows)
        if kind is Stepwise
        else WholeSequence(cost, max_rows=max_rows)
    )
    batcher, now_ns = Batcher(policy, cost, max_queue_rows=10_000), 0
    for number in range(300):
        now_ns += seed.randrange(300_000)
        if seed.random() < 0.05 and (batch := batcher.poll(now_ns).batch) is not None:
            now_ns += int(batch.predicted_seconds * SECOND_NS)
            batcher.finished(batch)
        ticket = Ticket(
            id=number,
            lengths=[seed.randint(1, 300) for _ in range(rows)],
            enqueued_ns=now_ns,
            deadline_ns=now_ns + int(seed.choice((0.05, 0.2, 0.4)) * seed.uniform(0.5, 2.0) * SECOND_NS),
            handicap_ns=seed.choice((0, 0, 0, -SECOND_NS // 10)),
        )
        twin = copy.deepcopy(batcher)
        twin._refusals.forget()
        noted = copy.deepcopy(vars(batcher._refusals))
        refused = batcher.admit(ticket, now_ns=now_ns)
        if refused is not None and refused.why is Refusal.OVERLOAD and vars(batcher._refusals) == noted:
            remembered += 1
            again = twin.admit(ticket, now_ns=now_ns)
            assert again is not None
            assert again.why is Refusal.OVERLOAD

    assert remembered > 20
