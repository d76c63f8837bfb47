"""Clients that do not read: what they are owed is bounded, and others do not notice."""

from contextlib import ExitStack

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.wire.others import SERVICE_NAME
from serving.wire.unread import CALL_BYTES, Unread
from tests.support.artefacts import FEATURES
from tests.wire.deaf import Deaf, eventually
from tests.wire.desk import SECONDS, UNREAD_BYTES, Desk

STEPS = 4000
ANSWER_BYTES = STEPS * 4 * 4
"""Of the output `steps`; the rest is little."""
CALLS = 40


class Call:
    """A call as the count knows it."""

    def __init__(self) -> None:
        self.dropped = 0

    def drop(self) -> None:
        self.dropped += 1


def request() -> oip.ModelInferRequest:
    x = np.ones((1, STEPS, FEATURES), "<f4")
    made = oip.ModelInferRequest(model_name="lstm", raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return made


def deaf_to(desk: Desk, method: str) -> Deaf:
    return Deaf(desk.port, f"/{SERVICE_NAME}/{method}", request().SerializeToString())


def answer(desk: Desk, count: int = 1) -> None:
    """Answer what comes, and return when the answers have been handed in."""
    before = desk.ended["ok"]
    desk.wait_for_waiting(count)
    desk.house.run_all()
    desk.wait_for(lambda: desk.ended["ok"] == before + count)


def test_answers_that_nobody_reads_are_bounded_and_the_oldest_go(desk: Desk) -> None:
    with ExitStack() as connections:
        deaf = []
        for _ in range(CALLS):
            deaf.append(connections.enter_context(deaf_to(desk, "ModelInfer")))
            answer(desk)
        for connection in deaf[: CALLS - UNREAD_BYTES // ANSWER_BYTES]:
            connection.wait_for_the_end()

        assert UNREAD_BYTES - ANSWER_BYTES - 2 * CALL_BYTES < desk.unread.bytes <= UNREAD_BYTES
        desk.slots.wait_empty(seconds=SECONDS)
        reading = desk.stub.ModelInfer.future(request(), timeout=SECONDS)
        answer(desk)
        assert len(reading.result().raw_output_contents[0]) == ANSWER_BYTES
    eventually(lambda: desk.unread.bytes == 0)


def test_a_stream_that_nobody_reads_goes_when_it_is_the_oldest(desk: Desk) -> None:
    with ExitStack() as connections:
        stream = connections.enter_context(deaf_to(desk, "ModelStreamInfer"))
        answer(desk)
        eventually(lambda: desk.unread.bytes > ANSWER_BYTES)
        for _ in range(UNREAD_BYTES // ANSWER_BYTES):
            connections.enter_context(deaf_to(desk, "ModelInfer"))
            answer(desk)

        stream.wait_for_the_end()
        desk.stream_slots.wait_empty(seconds=SECONDS)
    eventually(lambda: desk.unread.bytes == 0)


@given(
    limit=st.integers(1, 20 * CALL_BYTES),
    moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3 * CALL_BYTES), st.booleans()), max_size=60),
)
def test_the_count_is_what_was_added_less_what_was_sent_and_dropped(
    limit: int, moves: list[tuple[int, int, bool]]
) -> None:
    """Against a plain list of what each call owes, in the order in which calls moved."""
    unread, calls = Unread(limit), [Call() for _ in range(6)]
    owed: dict[int, list[int]] = {}
    for number, size, sends in moves:
        if sends and owed.get(number):
            waiting = owed.pop(number)
            unread.sent(calls[number], waiting.pop(0))
            if waiting:
                owed[number] = waiting
        else:
            owed.setdefault(number, []).append(size)
            before = [call.dropped for call in calls]
            unread.add(calls[number], size)
            for other in list(owed):
                if total(owed) > limit and other != number:
                    del owed[other]
                    before[other] += 1
            assert [call.dropped for call in calls] == before
        assert unread.bytes == total(owed)


def total(owed: dict[int, list[int]]) -> int:
    return sum(size + CALL_BYTES for sizes in owed.values() for size in sizes)


def test_what_is_sent_of_a_dropped_call_is_not_counted_twice() -> None:
    unread, old, new = Unread(CALL_BYTES), Call(), Call()
    unread.add(old, 1)
    unread.add(new, 1)
    unread.sent(old, 1)

    assert (old.dropped, new.dropped) == (1, 0)
    assert unread.bytes == CALL_BYTES + 1
