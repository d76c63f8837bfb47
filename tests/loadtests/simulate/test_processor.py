"""Virtual time goes on, and cores are shared and never more than there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.simulate.events import Loop
from loadtests.simulate.processor import Processor, Thread


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_time_never_goes_back(times: list[int]) -> None:
    loop, seen = Loop(), []
    for at in times:
        loop.at(at, lambda _: seen.append(loop.now_ns), None)
    loop.run()

    assert seen == sorted(times)


def test_what_is_planned_for_the_past_is_refused() -> None:
    loop = Loop()
    loop.at(5, lambda _: loop.at(4, print, None), None)
    with pytest.raises(ValueError, match="planned for 4 ns, and it is 5 ns"):
        loop.run()


def test_what_happens_at_one_time_happens_in_the_order_of_planning() -> None:
    loop, seen = Loop(), []
    for name in "abc":
        loop.at(7, seen.append, name)
    loop.run()

    assert seen == ["a", "b", "c"]


def test_a_heavier_thread_gets_more_of_a_core() -> None:
    """Weights 3 and 1: the first has had 300 of 400 ns when it is done; the other then has the core to itself."""
    loop, ends = Loop(), {}
    processor = Processor(loop)
    for name, weight in (("heavy", 3.0), ("light", 1.0)):
        processor.run(Thread(weight), 300, lambda name=name: ends.update({name: loop.now_ns}))
    loop.run()

    assert ends == {"heavy": 400, "light": 600}
    assert processor.busy_ns == 600


def test_nobody_gets_more_than_a_core() -> None:
    """Two cores, weights 8, 1 and 1: the first has one core, the others share one until it is done."""
    loop, ends = Loop(), []
    processor = Processor(loop, cores=2)
    for weight in (1.0, 8.0, 1.0):
        processor.run(Thread(weight), 100, lambda: ends.append(loop.now_ns))
    loop.run()

    assert ends == [100, 150, 150]


def test_a_slow_processor_takes_longer() -> None:
    loop, ends = Loop(), []
    Processor(loop, speed=0.5).run(Thread(1.0), 100, lambda: ends.append(loop.now_ns))
    loop.run()

    assert ends == [200]


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300), st.sampled_from([655.0, 1024.0])), max_size=12),
    st.integers(1, 3),
)
def test_all_work_is_done_and_no_core_is_used_twice(jobs: list[tuple[int, int, float]], cores: int) -> None:
    loop, done = Loop(), []
    processor = Processor(loop, cores=cores)

    def begin(job: tuple[int, int, float]) -> None:
        _, work, weight = job
        processor.run(Thread(weight), work, lambda: done.append((loop.now_ns, work)))

    for job in jobs:
        loop.at(job[0], begin, job)
    loop.run()

    assert sorted(work for _, work in done) == sorted(work for _, work, _ in jobs)
    assert processor.busy_ns <= cores * loop.now_ns
    work = sum(work for _, work, _ in jobs)
    assert work <= processor.busy_ns <= work + 2 * len(jobs) * cores, "whole nanoseconds, rounded up"
