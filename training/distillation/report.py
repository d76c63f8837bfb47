"""What distillation came to, in sentences and as JSON."""

from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from export.artefact import tool_versions
from export.job import now
from export.proving.latency import describe_cpu
from training.distillation.contestants import BATCHES, STUDENT, STUDENT_INT8, Contestant, named
from training.distillation.learning import Learned
from training.distillation.tasks import Task

SHARE_TARGET = 0.25
FASTER_TARGET = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured for one task.

    Attributes:
        test_rows: held-out rows that the metrics are about.
        steps: of the row that was timed.
        wall_seconds: of training, exporting and measuring together.
    """

    task: Task
    learned: Learned
    contestants: tuple[Contestant, ...]
    test_rows: int
    steps: int
    wall_seconds: float

    @property
    def share(self) -> float:
        """The student's parameters over the teacher's."""
        return self.learned.student_parameters / self.learned.teacher_parameters

    @property
    def gains(self) -> list[float]:
        """By how much each student is better than the control of its seed, in the metric's unit."""
        pairs = zip(self.learned.with_teacher, self.learned.without_teacher, strict=True)
        return [self.task.metric.gain(student, over=control) for student, control in pairs]

    def sentences(self) -> list[str]:
        """Say what was claimed, what came out, and whether the teacher was of use."""
        share_met, student = self.share <= SHARE_TARGET, named(self.contestants, STUDENT)
        faster_met = student.times_faster[1].median >= FASTER_TARGET
        return [
            f"Parameters: {self.share:.1%} of the teacher's; up to {SHARE_TARGET:.0%} claimed: {_verdict(share_met)}.",
            f"Rows of {self.steps} steps: {_times(student, 1)}; {FASTER_TARGET:g} claimed: {_verdict(faster_met)}.",
            f"Also: {_times(student, 32)}; {_times(named(self.contestants, STUDENT_INT8), *BATCHES)}.",
            self._help(),
        ]

    def _help(self) -> str:
        """Say whether students did better than controls in every seed, worse in every seed, or neither."""
        learned, gains, metric = self.learned, self.gains, self.task.metric
        better, worse = all(gain > 0 for gain in gains), all(gain < 0 for gain in gains)
        verdict = "the teacher helped" if better else "the teacher did harm" if worse else "no difference found"
        with_teacher, without = mean(learned.with_teacher), mean(learned.without_teacher)
        if metric.gain(without, over=learned.teacher) >= 0:
            verdict += ". On these rows the small model is as good as the teacher without it: there was little to teach"
        return (
            f"{metric.name} over {len(gains)} seeds: {with_teacher:.4f} with the teacher, {without:.4f} without (the "
            f"teacher itself: {learned.teacher:.4f}); gain by seed {', '.join(f'{gain:+.4f}' for gain in gains)}: "
            f"{verdict}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "task": self.task.recipe.name,
            "metric": self.task.metric.name,
            "test_rows": self.test_rows,
            "timed_steps": self.steps,
            "parameter_share": self.share,
            "targets": {"parameter_share": SHARE_TARGET, "times_faster_batch_1": FASTER_TARGET},
            "contestants": [asdict(contestant) for contestant in self.contestants],
            "teacher_pytorch": self.learned.teacher,
            "students_by_seed": list(self.learned.with_teacher),
            "controls_by_seed": list(self.learned.without_teacher),
            "first_seed": self.task.recipe.settings.seed,
            "student_history": [asdict(epoch) for epoch in self.learned.history],
            "machine": describe_cpu(),
            "threads": 1,
            "versions": tool_versions(),
            "date": now(),
            "wall_seconds": self.wall_seconds,
        }


def _times(one: Contestant, *batches: int) -> str:
    """Say how many times faster than the teacher it is, with the quartiles of the runs."""
    spreads = [(batch, one.times_faster[batch]) for batch in batches]
    figures = [f"{s.median:.1f} times at batch {batch} ({s.p25:.1f} to {s.p75:.1f})" for batch, s in spreads]
    return f"{one.name} {' and '.join(figures)} as fast as the teacher"


def _verdict(met: bool) -> str:  # noqa: FBT001  the name of the only argument would say nothing more
    return "met" if met else "missed"
