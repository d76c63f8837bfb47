"""What the cost model learns, and how hard it is to mislead."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching import CostModel
from tests.batching.house import Engine, seeded

ENGINE = Engine()
ASKED = [(1, 10), (1, 300), (8, 60), (32, 12), (32, 200), (64, 13), (64, 400)]


def some_shape(seed: random.Random) -> tuple[int, int]:
    return seed.randint(1, 64), seed.choice((8, 12, 13, 40, 100, 300))


def teach(
    cost: CostModel,
    calls: int,
    *,
    pace: Callable[[random.Random], float],
    shape: Callable[[random.Random], tuple[int, int]] = some_shape,
) -> CostModel:
    """Show it calls that take `pace` times what the formula says."""
    seed = seeded(calls)
    for _ in range(calls):
        rows, steps = shape(seed)
        cost.observe(rows=rows, steps=steps, seconds=ENGINE.seconds(rows, steps) * pace(seed))
    return cost


def worst_error(cost: CostModel, *, pace: float = 1.0, asked: list[tuple[int, int]] = ASKED) -> float:
    """Return the largest error of a prediction, relative to the truth."""
    return max(abs(cost.seconds(*shape) / (pace * ENGINE.seconds(*shape)) - 1.0) for shape in asked)


@pytest.mark.parametrize("warm", [True, False])
def test_it_recovers_the_coefficients_from_noisy_calls_of_mixed_shapes(*, warm: bool) -> None:
    cost = teach(
        ENGINE.warm_cost() if warm else CostModel(), 1000, pace=lambda seed: seed.lognormvariate(-0.00125, 0.05)
    )

    learned = cost.coefficients()
    assert learned.row_step == pytest.approx(ENGINE.row_step, rel=0.05)
    assert learned.step == pytest.approx(ENGINE.step, rel=0.1)
    assert learned.call + learned.row == pytest.approx(ENGINE.call, rel=0.5)
    assert worst_error(cost) < 0.06


def test_the_calls_at_load_alone_tell_the_coefficients() -> None:
    assert worst_error(ENGINE.warm_cost()) < 0.001


def test_calls_that_take_twenty_times_as_long_now_and_then_move_it_little() -> None:
    def hiccup(seed: random.Random) -> float:
        return 20.0 if seed.random() < 0.02 else seed.uniform(0.95, 1.05)

    assert worst_error(teach(ENGINE.warm_cost(), 2000, pace=hiccup)) < 0.06


def test_one_call_that_takes_a_thousand_times_as_long_moves_it_by_less_than_a_tenth() -> None:
    cost = teach(ENGINE.warm_cost(), 500, pace=lambda _: 1.0)
    teach(cost, 1, pace=lambda _: 1000.0)

    assert worst_error(cost) < 0.1


@pytest.mark.parametrize("pace", [3.0, 1 / 3])
def test_it_follows_a_lasting_change_of_speed_within_250_calls(pace: float) -> None:
    cost = teach(ENGINE.warm_cost(), 500, pace=lambda _: 1.0)
    teach(cost, 50, pace=lambda _: pace)
    assert worst_error(cost, pace=pace) < 0.25

    teach(cost, 200, pace=lambda _: pace)

    assert worst_error(cost, pace=pace) < 0.1


@pytest.mark.parametrize("pace", [3.0, 1 / 3])
def test_without_calls_at_load_it_follows_as_well(pace: float) -> None:
    cost = teach(CostModel(), 500, pace=lambda _: 1.0)
    teach(cost, 250, pace=lambda _: pace)

    assert worst_error(cost, pace=pace) < 0.1


@pytest.mark.parametrize("pace", [1.0, 3.0, 1 / 3])
@pytest.mark.parametrize("only", [(64, 13), (1, 100)])
def test_traffic_of_one_shape_leaves_it_right_about_others(only: tuple[int, int], pace: float) -> None:
    """The equations of such traffic have no one solution; the calls at load say which of them is meant."""
    cost = teach(
        ENGINE.warm_cost(),
        2000,
        pace=lambda seed: pace * seed.lognormvariate(0.0, 0.1),
        shape=lambda _: only,
    )

    assert worst_error(cost, pace=pace) < 0.1


def test_it_learns_what_rows_cost_beside_their_steps() -> None:
    """A row has a price of its own: packing it and scattering its answer."""
    cost = CostModel()
    seed = seeded(5)
    for _ in range(1000):
        rows, steps = some_shape(seed)
        cost.observe(rows=rows, steps=steps, seconds=ENGINE.seconds(rows, steps) + 3e-5 * rows)

    assert cost.coefficients().row == pytest.approx(3e-5, rel=0.1)


@given(
    warm=st.booleans(),
    calls=st.lists(
        st.tuples(
            st.integers(1, 4096),
            st.integers(1, 65536),
            st.one_of(st.just(0.0), st.floats(1e-9, 1e5, allow_nan=False)),
        ),
        max_size=120,
    ),
    asked=st.tuples(st.integers(1, 4096), st.integers(1, 65536)),
)
def test_whatever_it_sees_predictions_are_positive_and_finite(
    *, warm: bool, calls: list[tuple[int, int, float]], asked: tuple[int, int]
) -> None:
    cost = CostModel()
    if warm:
        cost.warm_start(calls[:6])
    for rows, steps, seconds in calls:
        cost.observe(rows=rows, steps=steps, seconds=seconds)

        now = cost.coefficients()
        assert min(now.call, now.row_step) > 0.0
        assert min(now.row, now.step) >= 0.0
    assert 0.0 < cost.seconds(*asked) < math.inf
    assert cost.seconds(*asked) <= cost.seconds(asked[0] + 1, asked[1])
    assert cost.seconds(*asked) <= cost.seconds(asked[0], asked[1] + 1)


def test_a_clock_that_stood_still_for_a_while_is_forgotten() -> None:
    """Calls of no time at all would leave weights behind that no call after them outweighs."""
    cost = teach(ENGINE.warm_cost(), 300, pace=lambda _: 0.0)
    teach(cost, 1500, pace=lambda _: 1.0)

    assert worst_error(cost) < 0.1


def test_it_shows_its_coefficients() -> None:
    assert repr(ENGINE.warm_cost()) == (
        "CostModel(200 us + 0.0 us per row + 50.0 us per step + 5.00 us per row and step)"
    )
