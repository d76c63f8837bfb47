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
        self.sums = [[0.0] * 5 for _ in UNITS]
        """Row i: the products of feature i with all four, then with the seconds."""

    def fade(self, factor: float) -> None:
        self.sums = [[each * factor for each in row] for row in self.sums]

    def add(self, call: Sequence[int], seconds: float, weight: float) -> None:
        features = [value / unit for value, unit in zip(call, UNITS, strict=True)]
        for row, feature in zip(self.sums, features, strict=True):
            scaled = weight * feature
            for column, other in enumerate(features):
                row[column] += scaled * other
            row[4] += scaled * seconds


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
        self._recent.fade(1.0 - 1.0 / MEMORY_CALLS)
        weight = _clipped(error) / error if error else 1.0
        self._recent.add((1, rows, steps, area), seconds / self._pace, weight * (self._pace / predicted) ** 2)
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
        equations = [
            [anchor + recent for anchor, recent in zip(*rows, strict=True)]
            for rows in zip(self._anchors.sums, self._recent.sums, strict=True)
        ]
        free = list(range(len(UNITS)))
        solution = _solve(equations, free)
        while min(solution) < 0.0:
            free.remove(solution.index(min(solution)))
            solution = _solve(equations, free)
        call, row, step, row_step = (self._pace * value / unit for value, unit in zip(solution, UNITS, strict=True))
        return Coefficients(
            call=max(call, FLOOR_SECONDS), row=row, step=step, row_step=max(row_step, FLOOR_ROW_STEP_SECONDS)
        )


def _clipped(error: float) -> float:
    return max(-OUTLIER_RATIO, min(OUTLIER_RATIO, error))


def _solve(equations: Sequence[Sequence[float]], free: Sequence[int]) -> list[float]:
    """Solve the rows and columns in `free` by elimination with a slight ridge; the other unknowns are zero."""
    size = len(free)
    rows = [[equations[i][j] * (1.0 + RIDGE * (i == j)) for j in free] + [equations[i][4]] for i in free]
    for pivot in range(size):
        divisor = rows[pivot][pivot]
        for below in range(pivot + 1, size):
            factor = rows[below][pivot] / divisor
            for column in range(pivot, size + 1):
                rows[below][column] -= factor * rows[pivot][column]
    found = [0.0] * size
    for pivot in reversed(range(size)):
        known = sum(rows[pivot][column] * found[column] for column in range(pivot + 1, size))
        found[pivot] = (rows[pivot][size] - known) / rows[pivot][pivot]
    solution = [0.0] * len(UNITS)
    for index, value in zip(free, found, strict=True):
        solution[index] = value
    return solution
