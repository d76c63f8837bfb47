"""Distillation: what a student learns from, and a tiny run from end to end."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional

from training import speaker
from training.datasets import DataSet
from training.distill import distil, main
from training.distillation import sizes, tasks
from training.distillation.contestants import STUDENT, STUDENT_INT8, TEACHER, named
from training.distillation.learning import learn
from training.distillation.report import Report
from training.distillation.tasks import TASKS, Task, mean_absolute_error
from training.distillation.teaching import OfClasses, OfNumbers
from training.loop import Settings, answer, train
from training.models import SPEAKER_CHANNELS, SPEAKERS, SpeakerIdentification

CONTESTANTS = [TEACHER, STUDENT, STUDENT_INT8]


def tiny(hidden: int) -> SpeakerIdentification:
    return SpeakerIdentification(channels=SPEAKER_CHANNELS, hidden=hidden, speakers=SPEAKERS, dropout=0.0)


def tiny_teacher() -> SpeakerIdentification:
    return tiny(12)


def tiny_student() -> SpeakerIdentification:
    return tiny(4)


def few_utterances() -> DataSet:
    """Every speaker's utterances, a sixth of them."""
    data = speaker.RECIPE.data()
    train_part, validation, test = (
        part.take(np.arange(0, len(part), 6)) for part in (data.train, data.validation, data.test)
    )
    return DataSet(train=train_part, validation=validation, test=test)


TASK = replace(
    TASKS[0],
    recipe=replace(speaker.RECIPE, data=few_utterances, settings=Settings(epochs=6, learning_rate=5e-3)),
    teacher=tiny_teacher,
    student=tiny_student,
)


@dataclass(frozen=True)
class Done:
    """A run: the folder that it wrote, what it printed, what it returned."""

    folder: Path
    shown: str
    report: Report


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Distil the tiny task once."""
    folder, shown = tmp_path_factory.mktemp("distilled"), io.StringIO()
    report = distil(TASK, folder, console=Console(file=shown, width=160))
    return Done(folder=folder, shown=shown.getvalue(), report=report)


@pytest.mark.parametrize(
    ("task", "of_hidden"), [(TASKS[0], sizes._speaker), (TASKS[1], sizes._forecast)], ids=["speaker", "forecast"]
)
def test_a_student_is_the_largest_with_at_most_a_quarter_of_the_parameters(
    task: Task, of_hidden: Callable[[int], nn.Module]
) -> None:
    teacher, student, larger = (
        sum(parameter.numel() for parameter in model.parameters())
        for model in (task.teacher(), task.student(), of_hidden(sizes.STUDENT_HIDDEN + 16))
    )

    assert student <= teacher / 4 < larger


def test_the_loss_with_teacher_and_targets_falls(done: Done) -> None:
    losses = [epoch.loss for epoch in done.report.learned.history]

    assert losses[-1] < 0.9 * losses[0]


def test_a_student_comes_closer_to_its_teacher() -> None:
    """The distillation loss alone, without the targets, falls as well."""
    data = few_utterances()
    torch.manual_seed(0)
    teacher, student = tiny_teacher().eval(), tiny_student()
    soft = OfClasses()
    taught = soft.taught(data, teacher)

    def distance() -> float:
        with torch.no_grad():
            return float(soft.soft(answer(student.eval(), data.train), answer(teacher, data.train)))

    before = distance()
    train(
        student,
        taught,
        loss=lambda output, joined: soft.soft(output, soft.split(joined)[1]),
        settings=Settings(epochs=5, learning_rate=5e-3),
        watch=lambda _: None,
    )

    assert distance() < 0.7 * before


def test_the_report_has_all_rows(done: Done) -> None:
    written: dict[str, Any] = json.loads((done.folder / "speaker-distillation.json").read_text())

    assert [one["name"] for one in written["contestants"]] == CONTESTANTS
    for one in written["contestants"]:
        assert 0 <= one["metric"] <= 1
        assert one["bytes"] > 0
        assert set(one["seconds"]) == set(one["times_faster"]) == {"1", "32"}
        for spread in (*one["seconds"].values(), *one["times_faster"].values()):
            assert 0 < spread["p25"] <= spread["median"] <= spread["p75"]
    assert len(written["students_by_seed"]) == len(written["controls_by_seed"]) == 3
    assert written["parameter_share"] == done.report.share <= 0.25
    assert written["test_rows"] == len(few_utterances().test)
    assert (done.folder / "speaker-distillation.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_shown_has_a_line_for_each_model_and_a_verdict_for_each_claim(done: Done) -> None:
    for name in (*CONTESTANTS, "control"):
        assert f"│ {name}" in done.shown
    assert "up to 25% claimed: met" in done.shown
    assert "; 3 claimed: " in done.shown
    assert "over 3 seeds" in done.shown


def test_the_exported_models_answer_as_the_trained_ones(done: Done) -> None:
    """Up to one row, whose two largest logits may be as good as equal."""
    teacher, student, int8 = (named(done.report.contestants, name) for name in CONTESTANTS)
    one_row = 1.01 / done.report.test_rows

    assert teacher.metric == pytest.approx(done.report.learned.teacher, abs=one_row)
    assert student.metric == pytest.approx(done.report.learned.with_teacher[0], abs=one_row)
    assert int8.bytes < student.bytes < teacher.bytes


def test_the_models_folder_holds_three_versions(done: Done) -> None:
    versions = {
        str(path.parent.relative_to(done.folder / "models")) for path in done.folder.glob("models/*/*/manifest.json")
    }

    assert versions == {"speaker-teacher/1", "speaker-student/1", "speaker-student/2"}


def test_a_loaded_teacher_gives_the_students_that_the_trained_one_gave(done: Done, tmp_path: Path) -> None:
    """So one seed also gives one result."""
    weights = done.folder / "speaker-teacher.safetensors"
    again = learn(TASK, few_utterances(), tmp_path, teacher_weights=weights, console=Console(file=io.StringIO()))

    assert again.teacher == done.report.learned.teacher
    assert again.history == done.report.learned.history
    assert again.with_teacher == done.report.learned.with_teacher
    assert not (tmp_path / "speaker-teacher.safetensors").exists()


def test_the_softened_divergence_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(5, 4)) * 3 for _ in range(2))
    p, q = (np.exp(logits / 3) / np.exp(logits / 3).sum(1, keepdims=True) for logits in (teacher, student))

    measured = OfClasses().soft(torch.from_numpy(student), torch.from_numpy(teacher)).item()

    assert measured == pytest.approx(9 * (p * np.log(p / q)).sum(1).mean())
    assert OfClasses().soft(torch.from_numpy(teacher), torch.from_numpy(teacher)).item() == pytest.approx(0, abs=1e-12)


def test_classes_and_logits_come_apart_as_they_were_joined() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    classes = np.array([0, 2, 1, 1, 0, 2])

    target, answers = OfClasses().split(torch.from_numpy(OfClasses().join(classes, logits)))

    assert target.tolist() == classes.tolist()
    assert torch.equal(answers, torch.from_numpy(logits))


def test_the_loss_of_numbers_is_halfway_between_target_and_teacher() -> None:
    target, answers, output = np.zeros((4, 5, 2)), np.full((4, 5, 2), 3.0), torch.full((4, 5, 2), 1.0)
    joined = torch.from_numpy(OfNumbers().join(target.astype(np.float32), answers.astype(np.float32)))

    assert OfNumbers().loss(functional.l1_loss)(output, joined).item() == pytest.approx(0.5 * 1 + 0.5 * 4)


def test_a_student_is_judged_by_the_targets_alone() -> None:
    data = few_utterances()
    torch.manual_seed(0)
    teacher = tiny_teacher().eval()

    taught = OfClasses().taught(data, teacher)

    assert np.array_equal(taught.test.target, data.test.target)
    with torch.no_grad():
        assert np.array_equal(taught.train.target[:, :-1], answer(teacher, data.train).numpy())
    assert np.array_equal(taught.train.target[:, -1], data.train.target)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.1, 0.2, 0.1), "the teacher helped"),
        ((-0.1, -0.2, -0.1), "the teacher did harm"),
        ((0.1, -0.2, 0.1), "no difference found"),
        ((0.1, 0.0, 0.1), "no difference found"),
    ],
)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.recipe.name)
def test_a_teacher_helped_if_every_student_is_better_than_its_control(
    done: Done, task: Task, gains: tuple[float, ...], verdict: str
) -> None:
    """Better is higher for accuracy and lower for an error."""
    sign = 1 if task.metric.higher_is_better else -1
    learned = replace(
        done.report.learned, with_teacher=tuple(0.5 + sign * gain for gain in gains), without_teacher=(0.5, 0.5, 0.5)
    )

    assert f": {verdict}." in replace(done.report, task=task, learned=learned).sentences()[-1]


@pytest.mark.parametrize(("teacher", "said"), [(0.8, False), (0.5, True), (0.4, True)])
def test_it_is_said_if_the_small_model_alone_is_as_good_as_the_teacher(
    done: Done, teacher: float, *, said: bool
) -> None:
    learned = replace(done.report.learned, teacher=teacher, without_teacher=(0.4, 0.5, 0.6))

    assert ("little to teach" in replace(done.report, learned=learned).sentences()[-1]) == said


def test_a_metric_is_that_of_all_rows() -> None:
    part = few_utterances().test
    right = np.eye(SPEAKERS, dtype=np.float32)[part.target.astype(np.int64)]

    assert tasks.accuracy(right, part.target) == 1
    assert tasks.accuracy(np.roll(right, 1, axis=1), part.target) == 0
    assert mean_absolute_error(right, right + 2) == 2


def test_a_teacher_that_is_not_there_is_an_error_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.safetensors"

    assert main(["speaker", "--output", str(tmp_path / "out"), "--teacher", str(missing)]) == 1

    assert str(missing) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--output", "out"], "invalid choice: 'digits'"),
        (["speaker"], "--output"),
        (["speaker", "--output", "out", "--seed", "-1"], "expected a whole number of at least 0"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)

    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
