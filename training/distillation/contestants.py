"""Teacher, student and the student in INT8 as they would be served: exported, judged and timed in onnxruntime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.job import Job
from export.pytorch.export_torch import export_torch
from export.runtime import Runtime
from export.smaller.export_int8 import export_int8
from training.datasets import Part
from training.distillation.learning import Learned
from training.distillation.tasks import Metric
from training.exported import median_row, open_version, predict, rows_of
from training.turns import Spread, spread_of, take_turns

TEACHER, STUDENT, STUDENT_INT8 = "teacher", "student", "student INT8"
BATCHES = (1, 32)
ROUNDS = 100
BUDGET_SECONDS = 8.0
"""Per batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One exported model.

    Attributes:
        bytes: size of the ONNX file.
        metric: of its answers on the held-out rows, each run alone.
        seconds: of one run, by rows of the batch.
        times_faster: than the teacher, run by run, by rows of the batch.
    """

    name: str
    parameters: int
    bytes: int
    metric: float
    seconds: Mapping[int, Spread]
    times_faster: Mapping[int, Spread]


def export_all(learned: Learned, models: Path, job: Job) -> dict[str, Runtime]:
    """Export teacher and student with the exporter's proofs, the student in INT8 as well, and load them, by name.

    Raises:
        ExportError: a model cannot be exported or quantized.
        ProofFailed: an export is too far from PyTorch, or INT8 from FP32.
    """
    student = export_torch(learned.files.student, models, job)
    directories = {
        TEACHER: export_torch(learned.files.teacher, models, job),
        STUDENT: student,
        STUDENT_INT8: export_int8(student, job),
    }
    return {name: open_version(directory) for name, directory in directories.items()}


def measure(learned: Learned, runtimes: Mapping[str, Runtime], test: Part, metric: Metric) -> tuple[Contestant, ...]:
    """Judge and time the loaded models on the held-out rows; batches are the row of median length, repeated."""
    rows = rows_of(test)
    row = median_row(rows)
    turns = {
        batch: take_turns(runtimes, row, batch_rows=batch, rounds=ROUNDS, budget_seconds=BUDGET_SECONDS)
        for batch in BATCHES
    }
    return tuple(
        Contestant(
            name=name,
            parameters=learned.teacher_parameters if name == TEACHER else learned.student_parameters,
            bytes=len(runtime.model.content),
            metric=metric.of(predict(runtime, rows), test.target),
            seconds={batch: spread_of(times[name]) for batch, times in turns.items()},
            times_faster={batch: spread_of(times[TEACHER] / times[name]) for batch, times in turns.items()},
        )
        for name, runtime in runtimes.items()
    )


def named(contestants: Sequence[Contestant], name: str) -> Contestant:
    """Return the one of this name."""
    return next(one for one in contestants if one.name == name)
