"""The decisions of a HorizontalPodAutoscaler, told the time and the metrics of each pod.

Source: Kubernetes' documentation "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior), and
`replica_calculator.go` and `horizontal.go` of its controller for what it leaves open.
"""

from collections.abc import Callable, Sequence
from math import ceil, floor

from loadtests.simulate.scenario import Autoscaling, Behaviour, Rule

Choice = Callable[[Sequence[int]], int]
ROUNDING = 1e-9
"""The controller computes in integers of a thousandth; here a sum of floats must not cost a replica."""


class Autoscaler:
    """Remembers what it recommended and did, as stabilization windows and scaling policies ask."""

    def __init__(self, settings: Autoscaling) -> None:
        self._settings = settings
        self._recommended: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def decide(self, now: float, current: int, values: Sequence[Sequence[float | None]]) -> int:
        """Return how many replicas there should be from now on, and take them for granted.

        Args:
            now: seconds.
            current: replicas asked for so far.
            values: of each metric, in the order of the settings' targets: one for each pod that is not leaving, None
                for those that have none yet.
        """
        settings = self._settings
        wanted = max(
            recommended(current, of_pods, target=each.target, tolerance=settings.tolerance)
            for each, of_pods in zip(settings.targets, values, strict=True)
        )
        stable = self._stabilized(now, current, wanted)
        self._recommended.append((now, wanted))
        decided = min(settings.most, max(settings.least, self._limited(now, current, stable)))
        if decided != current:
            self._changes.append((now, decided - current))
        return decided

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        """Return the nearest to the present number between the least and the most of the windows' recommendations."""
        up, down = self._settings.up.window, self._settings.down.window
        self._recommended = [each for each in self._recommended if each[0] > now - max(up, down)]
        least = min([number for at, number in self._recommended if at > now - up], default=wanted)
        most = max([number for at, number in self._recommended if at > now - down], default=wanted)
        return min(max(current, min(least, wanted)), max(most, wanted))

    def _limited(self, now: float, current: int, wanted: int) -> int:
        if wanted == current:
            return current
        behaviour = self._settings.up if wanted > current else self._settings.down
        if behaviour.select == "Disabled":
            return current
        longest = max(rule.period for side in (self._settings.up, self._settings.down) for rule in side.rules)
        self._changes = [each for each in self._changes if each[0] > now - longest]
        limits = [self._limit(now, current, rule, grows=wanted > current) for rule in behaviour.rules]
        if wanted > current:
            return min(wanted, max(current, _chosen(behaviour, limits, farthest=max, nearest=min)))
        return max(wanted, min(current, _chosen(behaviour, limits, farthest=min, nearest=max)))

    def _limit(self, now: float, current: int, rule: Rule, *, grows: bool) -> int:
        """Return how many replicas a scaling policy allows."""
        begun = current - sum(change for at, change in self._changes if at > now - rule.period)
        if rule.kind == "Pods":
            return begun + rule.value if grows else begun - rule.value
        if grows:
            return ceil(begun * (1 + rule.value / 100) - ROUNDING)
        return floor(begun * (1 - rule.value / 100) + ROUNDING)


def recommended(current: int, values: Sequence[float | None], *, target: float, tolerance: float) -> int:
    """Return ceil(pods * mean / target), or `current` if that is within the tolerance.

    Pods without a value count as at the target where the others are below it, and as idle where they are above it; if
    that turns the direction, nothing changes.

    Args:
        current: replicas asked for so far.
        values: of the metric by pod.
        target: of their mean.
        tolerance: of the ratio of mean and target.
    """
    known = [value for value in values if value is not None]
    if not known:
        return current
    ratio = sum(known) / len(known) / target
    filled = ratio
    if missing := len(values) - len(known):
        supposed = missing * target if ratio < 1 else 0.0
        filled = (sum(known) + supposed) / len(values) / target
    if abs(1 - filled) <= tolerance + ROUNDING or (ratio < 1) != (filled < 1):
        return current
    wanted = ceil(filled * len(values) - ROUNDING)
    return current if (filled < 1) != (wanted < current) and wanted != current else wanted


def _chosen(behaviour: Behaviour, limits: Sequence[int], *, farthest: Choice, nearest: Choice) -> int:
    return farthest(limits) if behaviour.select == "Max" else nearest(limits)
