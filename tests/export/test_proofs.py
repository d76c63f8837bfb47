"""The proofs tell right graphs from wrong ones."""

from pathlib import Path

import pytest
from torch import nn

from export.data import noise, pool
from export.errors import ProofFailed
from export.proving.proofs import COMPANY_LIMIT, prove_chunks, prove_parity
from export.pytorch.export_torch import export_torch
from export.pytorch.reference import Reference
from export.runtime import Row, Runtime
from export.spec import ExportSpec, parse_input
from serving.manifest import Manifest, Proof, read_manifest
from tests.export.models import Causal, MaskedMean
from tests.export.padding_models import Appended
from tests.export.support import X, exported, quiet_job, saved_weights


def _export(factory: type[nn.Module], directory: Path, *, lengths: str | None = None) -> tuple[Manifest, str]:
    spec = ExportSpec(
        factory=f"{factory.__module__}:{factory.__name__}",
        weights=saved_weights(factory, directory),
        name="model",
        inputs=(parse_input(X),),
        lengths_argument=lengths,
    )
    job, _ = quiet_job()
    written = export_torch(spec, directory / "models", job)
    return read_manifest(written), (written / "report.md").read_text()


def _proof(manifest: Manifest, name: str) -> Proof:
    return next(proof for proof in manifest.proofs if proof.name == name)


def test_a_causal_model_is_stepwise_with_all_proofs_passed(tmp_path: Path) -> None:
    """Even one whose forward gives the layers a state of zeros by hand."""
    manifest, report = _export(Causal, tmp_path)

    assert manifest.stepwise
    assert manifest.state is not None
    assert manifest.state.size == 2 * 2 * 5
    assert not manifest.equal_lengths
    assert [(proof.name, proof.passed) for proof in manifest.proofs] == [
        ("parity", True),
        ("company", True),
        ("chunks", True),
    ]
    assert float(_proof(manifest, "parity").measured["relative"]) < 1e-5
    assert 'grpc.InferInput("x", list(values.shape), "FP32")' in report


def test_a_read_of_the_padding_may_only_meet_rows_of_its_own_length(tmp_path: Path) -> None:
    """A step that is appended behind the padding has no place that all rows share."""
    manifest, report = _export(Appended, tmp_path)

    assert manifest.equal_lengths
    assert not manifest.stepwise
    assert float(_proof(manifest, "company").measured["mixed_lengths_relative"]) > 100 * COMPANY_LIMIT
    assert _proof(manifest, "parity").measured["lengths"] == "equal"
    assert "reads padded steps" in report


def test_a_masked_mean_is_right_in_company_but_not_stepwise(tmp_path: Path) -> None:
    """Its lengths come through a parameter of another name."""
    manifest, report = _export(MaskedMean, tmp_path, lengths="steps")

    assert not manifest.equal_lengths
    assert not manifest.stepwise
    assert manifest.state is None
    assert "It is not stepwise: chunks with carried state differ" in report


@pytest.fixture(scope="module")
def masked_mean() -> tuple[Runtime, Reference, list[Row]]:
    runtime, reference = exported(MaskedMean, carry_state=True, lengths="steps")
    return runtime, reference, pool(noise(runtime.model), runtime.model.inputs)


def test_chunks_of_a_model_that_looks_at_the_whole_sequence_fail(
    masked_mean: tuple[Runtime, Reference, list[Row]],
) -> None:
    runtime, _, rows = masked_mean

    assert not prove_chunks(runtime, rows).passed


def test_parity_fails_against_other_weights(masked_mean: tuple[Runtime, Reference, list[Row]]) -> None:
    runtime, reference, rows = masked_mean
    assert prove_parity(runtime, reference, rows, equal_lengths=False).passed

    for weight in reference.model.parameters():
        weight.mul_(1.01)

    assert not prove_parity(runtime, reference, rows, equal_lengths=False).passed


def test_a_failed_proof_stops_the_job_unless_forced() -> None:
    failed = Proof(name="parity", passed=False, measured={"relative": 0.5}, limit={"relative": 1e-4})
    job, _ = quiet_job()
    forced_job, shown = quiet_job(force=True)

    with pytest.raises(ProofFailed, match="parity measured"):
        job.forced([failed])
    assert forced_job.forced([failed])
    assert "WARNING" in shown.getvalue()
