"""Models take turns by how much of their work is done, and a long call never keeps the others out for long."""

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.turns import Member, Turns

SECONDS = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again until the condition holds; fail after a minute."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up, "the condition never came true"


def test_turns_are_handed_out_while_there_are_threads() -> None:
    turns = Turns(2, patience_seconds=SECONDS)
    with turns.turn(Member(), threads=1), turns.turn(Member(), threads=1):
        assert turns.waiting == 0
    with turns.turn(Member(), threads=8):
        assert turns.waiting == 0


def test_who_has_waited_long_computes_beside_the_others() -> None:
    turns = Turns(1, patience_seconds=0.001)
    with turns.turn(Member(), threads=1), turns.turn(Member(), threads=1):
        assert turns.waiting == 0
    with Turns(1, patience_seconds=SECONDS).turn(Member(), threads=1):
        pass


@pytest.mark.parametrize("backlogs", [(3.0, 1.0), (1.0, 1.0), (1.0, 5.0)])
def test_the_share_follows_the_backlog(backlogs: tuple[float, float]) -> None:
    """With calls of equal length and both always busy, turns are in proportion, to the call."""
    turns = Turns(1, patience_seconds=SECONDS)
    members = (Member(), Member())
    counts = [0, 0]
    calls = 240

    def compute(number: int) -> None:
        while sum(counts) < calls:
            with turns.turn(members[number], threads=1):
                going = True
                while going and sum(counts) < calls:
                    until(lambda: turns.waiting == 1)
                    counts[number] += 1
                    turns.used(members[number], seconds=0.01, backlog_seconds=backlogs[number])
                    going = turns.goes_on(members[number])

    threads = [threading.Thread(target=compute, args=(number,)) for number in (0, 1)]
    with turns.turn(Member(), threads=1):
        for thread in threads:
            thread.start()
        until(lambda: turns.waiting == 2)
    for thread in threads:
        thread.join(SECONDS)

    expected = [calls * backlog / sum(backlogs) for backlog in backlogs]
    assert counts == pytest.approx(expected, abs=2)


@given(idle_calls=st.integers(0, 50))
def test_nobody_saves_up_turns_while_it_has_nothing_to_do(idle_calls: int) -> None:
    turns = Turns(1)
    busy, idle = Member(), Member()
    for _ in range(idle_calls + 1):
        with turns.turn(busy, threads=1):
            turns.used(busy, seconds=1.0, backlog_seconds=1.0)
    with turns.turn(idle, threads=1):
        pass

    assert busy.served - idle.served <= 1.0
