"""Reads over time cover the real steps of each row; what cannot be rewritten is found and named."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export.data import noise, pool
from export.pytorch.culprit import find_culprit
from export.pytorch.export_torch import export_torch
from export.pytorch.reference import Reference
from export.runtime import Runtime
from export.spec import ExportSpec, parse_input
from serving.manifest import read_manifest
from tests.export import padding_models
from tests.export.padding_models import (
    FEATURES,
    Appended,
    Attention,
    CentredOnBatch,
    LastThree,
    OwnMasks,
    Ramp,
    Reductions,
    Reversed,
    TimeMajor,
    Windows,
    line_of,
)
from tests.export.support import X, exported, quiet_job, rows_of, saved_weights

LENGTHS = (4, 9, 1, 6, 2)
ZOO: dict[type[nn.Module], str] = {
    Reductions: X,
    Attention: X,
    Windows: X,
    TimeMajor: f"x:float32[time,batch,{FEATURES}]",
    OwnMasks: X,
}
Differences = dict[str, float]


def _worst(runtime: Runtime, reference: Reference) -> Differences:
    """Return, per output, the largest difference between a batch of mixed lengths and PyTorch's rows alone."""
    rows = rows_of(runtime, LENGTHS)
    worst: Differences = {}
    expected = reference.answers(rows)
    for dirty in (True, False):
        for answer, alone in zip(runtime.answer(rows, dirty=dirty), expected, strict=True):
            for name, values in alone.items():
                assert np.isfinite(answer[name]).all()
                worst[name] = max(worst.get(name, 0.0), float(np.abs(answer[name] - values).max()))
    return worst


@pytest.fixture(scope="module")
def zoo(request: pytest.FixtureRequest) -> tuple[Reference, Differences]:
    """A model with many reads, exported once."""
    runtime, reference = exported(request.param, [ZOO[request.param]])
    return reference, _worst(runtime, reference)


@pytest.mark.parametrize("zoo", list(ZOO), indirect=True)
def test_reads_over_time_are_right_in_a_padded_batch(zoo: tuple[Reference, Differences]) -> None:
    """A dirty padded batch of mixed lengths gives each row what PyTorch gives it alone, in every output."""
    _, worst = zoo

    assert {name: difference for name, difference in worst.items() if difference >= 1e-5} == {}


@pytest.mark.parametrize("zoo", [Reductions], indirect=True)
def test_each_rewritten_read_is_named_by_its_line(zoo: tuple[Reference, Differences]) -> None:
    reference, worst = zoo
    lines = reference.exported.reads_by_lengths

    named = {name for name in worst if any(f'"{name}":' in line for line in lines)}
    assert set(worst) - named == {"max", "argmax_of_max", "min", "argmin_of_min"}
    assert line_of(Reductions.forward, "y.max(1)") in lines
    assert line_of(Reductions.forward, "torch.min(y") in lines


@pytest.mark.parametrize(
    ("factory", "code", "operator"),
    [
        (LastThree, "y[:, -3:]", "Slice"),
        (Ramp, "ramp[None", "Mul"),
        (Appended, "torch.cat", "Concat"),
        (Reversed, "y[:, backwards]", "GatherND"),
        (CentredOnBatch, "last.mean(0)", "Sub"),
    ],
)
def test_the_culprit_is_the_line_that_reads_the_padding(
    factory: type[padding_models.Unsafe], code: str, operator: str
) -> None:
    """Not the lines above it, which are right, nor those below it, which only go on with what it gave."""
    runtime, reference = exported(factory)

    culprit = find_culprit(reference.exported, pool(noise(runtime.model), runtime.model.inputs))

    assert culprit is not None
    assert (culprit.line, culprit.operator) == (line_of(factory.read, code), operator)


def test_a_graph_that_is_right_has_no_culprit() -> None:
    runtime, reference = exported(padding_models.Mean)

    assert find_culprit(reference.exported, pool(noise(runtime.model), runtime.model.inputs)) is None


def _report(factory: type[nn.Module], directory: Path) -> tuple[bool, str]:
    spec = ExportSpec(
        factory=f"tests.export.padding_models:{factory.__name__}",
        weights=saved_weights(factory, directory),
        name="model",
        inputs=(parse_input(X),),
    )
    job, _ = quiet_job()
    written = export_torch(spec, directory / "models", job)
    return read_manifest(written).equal_lengths, (written / "report.md").read_text()


def test_the_report_names_the_line_that_keeps_lengths_apart_and_the_way_out(tmp_path: Path) -> None:
    equal_lengths, report = _report(Appended, tmp_path)

    assert equal_lengths
    assert f"because `{line_of(Appended.read, 'torch.cat')}` reads padded steps" in report
    assert "To lift that, append by 'lengths'" in report


def test_the_report_names_the_lines_that_go_by_lengths(tmp_path: Path) -> None:
    equal_lengths, report = _report(padding_models.Mean, tmp_path)

    assert not equal_lengths
    assert (
        f"cover the real steps of each row by `lengths`, not the padding: `{line_of(padding_models.Mean.read, 'mean')}`."
        in report
    )
    assert str(Path.cwd()) not in report
