"""What an engine call costs, learned from calls: seconds = call + row * rows + step * steps + row_step * area.

`call` is what any call costs, `row` what each row adds to a call (packing, scattering), `step` what a step of the
longest row costs with however few rows (the weights are read once per step), `row_step` what a row adds to a step. The
area is rows * steps, for an engine that computes what it is given, padding and all; for one that leaves padding out it
is the sum of the rows' real steps. One model per batcher, so per model and number of instances.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

UNITS = (1.0, 16.0, 64.0, 1024.0)
"""Of the four features: they keep them near one, so that the normal equations stay well-conditioned."""
MEMORY_CALLS = 64
"""A call weighs 1/e of the newest after as many calls."""
ANCHOR_WEIGHT = 0.25
"""Of each call made at load against a call of traffic. It never fades: it holds what traffic says nothing about."""
OUTLIER_RATIO = 0.5
"""Beyond this error relative to the prediction, a call pulls no harder than at it (Huber, "Robust Estimation of a
Location Parameter", 1964): a hiccup of the machine counts as one odd call, a lasting change is still followed."""
PACE_CALLS = 32
"""How many calls it takes, or a little more, to follow a machine that has become slower or faster as a whole."""
PACES = (1e-4, 1e4)
"""What the pace may be, against the calls made at load."""
RIDGE = 1e-6
"""Of the diagonal: keeps equations solvable whose calls all had one shape."""
FLOOR_SECONDS = 1e-7
"""No call takes less."""
FLOOR_ROW_STEP_SECONDS = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Seconds per call, per row, per step, and per row and step."""

    call: float
    row: float
    step: float
    row_step: float

    def seconds(self, rows: int, steps: int, area: int) -> float:
        """Return the seconds of a call of rows up to so long, that computes `area` of its `rows * steps` steps."""
        full = self.call + rows * self.row + steps * (self.step + rows * self.row_step)
        return full - (rows * steps - area) * self.row_step

    def fixed(self, rows: int) -> float:
        """Return the seconds of a call of so many rows beside its steps."""
        return self.call + rows * self.row

    def per_step(self, rows: int) -> float:
        """Return the seconds of one step of so many rows, none of them at its end."""
        return self.step + rows * self.row_step


class _Equations:
    """Sums of the weighted normal equations of four unknowns."""

    def __init__(self) -> None:
        self.sums = [0.0] * 20
        """Of each feature in turn: its products with all four, then with the seconds."""

    def add(self, call: Sequence[int], seconds: float, weight: float, *, fade: float = 1.0) -> None:
        """Add a call, and leave a part `fade` of the weight of those before it."""
        one, rows, steps, area = features = [value / unit for value, unit in zip(call, UNITS, strict=True)]
        sums, at = self.sums, 0
        for feature in features:
            scaled = weight * feature
            sums[at] = sums[at] * fade + scaled * one
            sums[at + 1] = sums[at + 1] * fade + scaled * rows
            sums[at + 2] = sums[at + 2] * fade + scaled * steps
            sums[at + 3] = sums[at + 3] * fade + scaled * area
            sums[at + 4] = sums[at + 4] * fade + scaled * seconds
            at += 5


class CostModel:
    """Weighted least squares over recent calls, times a pace; coefficients are never negative.

    The pace is what all calls have in common: a machine that slows down slows all shapes, also those that traffic does
    not show now.
    """

    def __init__(self, *, padding_free: bool = False) -> None:
        """Start with a guess; `padding_free` is the engine's (see `serving.engine.base.Engine`)."""
        self.padding_free = padding_free
        self._anchors = _Equations()
        self._recent = _Equations()
        self._pace = 1.0
        self._at_load: Coefficients | None = None
        self._stale = False
        self._coefficients = Coefficients(call=1e-4, row=1e-6, step=1e-5, row_step=1e-6)  # of some small model

    def __repr__(self) -> str:
        now = self.coefficients()
        return (
            f"CostModel({now.call * 1e6:.0f} us + {now.row * 1e6:.1f} us per row + {now.step * 1e6:.1f} us per step "
            f"+ {now.row_step * 1e6:.2f} us per row and {'real step' if self.padding_free else 'step'})"
        )

    def warm_start(self, calls: Iterable[tuple[int, int, float]]) -> None:
        """Learn from calls (rows, steps of each, seconds) made before any traffic; they stay a part of the model."""
        for rows, steps, measured in calls:
            seconds = max(measured, FLOOR_SECONDS)
            self._anchors.add((1, rows, steps, rows * steps), seconds, ANCHOR_WEIGHT / seconds**2)
            self._at_load = self._coefficients = self._fit()

    def observe(self, *, rows: int, steps: int, seconds: float, real_steps: int | None = None) -> None:
        """Learn from a call of traffic.

        Args:
            rows: of the call.
            steps: of its longest row.
            seconds: that it took.
            real_steps: of all its rows in sum; None if they are equally long.
        """
        area = self._area(rows, steps, real_steps)
        predicted = self.coefficients().seconds(rows, steps, area)
        error = seconds / predicted - 1.0
        weight = (_clipped(error) / error if error else 1.0) * (self._pace / predicted) ** 2
        self._recent.add((1, rows, steps, area), seconds / self._pace, weight, fade=1.0 - 1.0 / MEMORY_CALLS)
        at_load = predicted if self._at_load is None else self._pace * self._at_load.seconds(rows, steps, area)
        pace = self._pace * (1.0 + _clipped(seconds / at_load - 1.0) / PACE_CALLS)
        self._pace = max(PACES[0], min(PACES[1], pace))
        self._stale = True

    def seconds(self, rows: int, steps: int, real_steps: int | None = None) -> float:
        """Predict a call of `rows` rows padded to `steps` steps, of which `real_steps` are real; None if all are."""
        return self.coefficients().seconds(rows, steps, self._area(rows, steps, real_steps))

    def coefficients(self) -> Coefficients:
        """Return what has been learned so far."""
        if self._stale:
            self._stale = False
            self._coefficients = self._fit()
        return self._coefficients

    def _area(self, rows: int, steps: int, real_steps: int | None) -> int:
        """Return the steps that the engine computes for all rows in sum."""
        return real_steps if self.padding_free and real_steps is not None else rows * steps

    def _fit(self) -> Coefficients:
        """Solve for non-negative coefficients: drop the most negative one and solve again (active set)."""
        equations = [anchor + recent for anchor, recent in zip(self._anchors.sums, self._recent.sums, strict=True)]
        for diagonal in range(0, 20, 6):
            equations[diagonal] *= 1.0 + RIDGE
        solution = _solve(equations)
        while min(solution) < 0.0:
            _drop(solution.index(min(solution)), equations)
            solution = _solve(equations)
        call, row, step, row_step = (self._pace * value / unit for value, unit in zip(solution, UNITS, strict=True))
        return Coefficients(
            call=max(call, FLOOR_SECONDS), row=row, step=step, row_step=max(row_step, FLOOR_ROW_STEP_SECONDS)
        )


def _clipped(error: float) -> float:
    return max(-OUTLIER_RATIO, min(OUTLIER_RATIO, error))


def _drop(unknown: int, equations: list[float]) -> None:
    """Make an unknown zero, whatever the others are."""
    equations[unknown::5] = [0.0] * 4
    equations[5 * unknown : 5 * unknown + 5] = [0.0] * 5
    equations[6 * unknown] = 1.0


def _solve(equations: Sequence[float]) -> list[float]:
    """Solve by elimination, which is written out because it runs after every engine call.

    Args:
        equations: four, of each its four factors and what they add up to.
    """
    a0, a1, a2, a3, at, b0, b1, b2, b3, bt, c0, c1, c2, c3, ct, d0, d1, d2, d3, dt = equations
    ratio = b0 / a0
    b1, b2, b3, bt = b1 - ratio * a1, b2 - ratio * a2, b3 - ratio * a3, bt - ratio * at
    ratio = c0 / a0
    c1, c2, c3, ct = c1 - ratio * a1, c2 - ratio * a2, c3 - ratio * a3, ct - ratio * at
    ratio = d0 / a0
    d1, d2, d3, dt = d1 - ratio * a1, d2 - ratio * a2, d3 - ratio * a3, dt - ratio * at
    ratio = c1 / b1
    c2, c3, ct = c2 - ratio * b2, c3 - ratio * b3, ct - ratio * bt
    ratio = d1 / b1
    d2, d3, dt = d2 - ratio * b2, d3 - ratio * b3, dt - ratio * bt
    ratio = d2 / c2
    d3, dt = d3 - ratio * c3, dt - ratio * ct
    fourth = dt / d3
    third = (ct - c3 * fourth) / c2
    second = (bt - (b2 * third + b3 * fourth)) / b1
    first = (at - (a1 * second + a2 * third + a3 * fourth)) / a0
    return [first, second, third, fourth]
