"""`lstm-export onnx`: from an ONNX file made by others to a proven FP32 version."""

import hashlib
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import NOISE_WARNING, Data, noise, read_data
from export.errors import ExportError
from export.job import Job, finite, now
from export.model import OnnxModel
from export.onnx_file.builder import Builder
from export.onnx_file.describe import export_notes, length_warning, padding_warning
from export.onnx_file.finish import Candidate, finish
from export.onnx_file.opening import Opened, open_file
from export.onnx_file.original import Original
from export.onnx_file.state import lift_state
from export.onnx_file.suspects import steps_in_constants
from export.proving.best_form import Form, best_form
from export.proving.proofs import prove_parity
from export.proving.recorded import ORIGINAL_FILE, record, recorded_rows
from export.reporting.plot import plot_parity
from export.reporting.report import describe
from export.runtime import Row
from export.spec import LENGTHS, ModelInput
from serving.manifest import NAME_PATTERN, Manifest, ModelFile, Proof, is_model_name, sha256_of


def export_onnx(file: Path, *, name: str, inputs: tuple[ModelInput, ...] | None, models: Path, job: Job) -> Path:
    """Free, prove and write the next version under `models`; returns its folder.

    Args:
        file: ONNX model with recurrent nodes; external weights lie beside it.
        name: of the model in the repository.
        inputs: axes of the file's inputs, in the file's order; None, or some of them missing, to have them guessed.
        models: the repository.
        job: data, --force and progress.

    Raises:
        ExportError: the file or the data cannot be used; the message names the node that is in the way.
        ProofFailed: a proof failed and `job.force` is off.
    """
    if not is_model_name(name):
        raise ExportError(f"name {name!r} is not of the form {NAME_PATTERN}")
    with job.step(f"freeing batch and time of {file.name}"):
        opened = open_file(file, inputs)
    form = best_form(lambda carry_state: _finish(opened, carry_state=carry_state), lambda model: _rows(model, job), job)
    freed = opened.freed
    original = Original(session=opened.session, plan=freed.plan, frozen=freed.frozen, candidate=form.made)
    rows = original.rows(form.pool, form.data)
    with job.step("proving parity with the file"):
        parity = _prove_parity(original, form, rows, freed.builder)
    proofs = tuple(finite(proof) for proof in (parity, *form.proofs))
    forced = job.forced(proofs)
    warnings = [padding_warning(freed, form.padding_error)] if form.equal_lengths else []
    warnings += [*length_warning(original), *([] if form.data.real else [NOISE_WARNING])]
    notes = [*export_notes(freed, form.made), *form.notes]
    manifest = _manifest(file, name, models, form, proofs).model_copy(
        update={"forced": forced, "warnings": tuple(warnings), "notes": tuple(notes)}
    )
    plot = plot_parity(form.runtime, original, rows)
    answers = record(original, original.rows(recorded_rows(form.made.model), noise(form.made.model)))
    directory = write_version(
        models,
        manifest,
        form.made.model.content,
        lambda written: {**describe(written, plot), ORIGINAL_FILE: answers},
    )
    job.close(directory, manifest)
    return directory


def _finish(opened: Opened, *, carry_state: bool) -> Candidate:
    return finish(opened.freed, lift_state(opened.freed) if carry_state else None)


def _rows(model: OnnxModel, job: Job) -> Data:
    return noise(model) if job.data is None else read_data(job.data, model.inputs)


def _prove_parity(original: Original, form: Form[Candidate], rows: list[Row], builder: Builder) -> Proof:
    """Compare with the file at the lengths that it takes; constants that no such length can judge fail the proof."""
    proof = prove_parity(form.runtime, original, rows, equal_lengths=form.equal_lengths)
    if original.lengths is None:
        return proof
    measured = {**proof.measured, "lengths": f"{original.lengths}, as the file is bound to"}
    suspects = [] if original.chunk else steps_in_constants(builder, original.frozen.time)
    if suspects:
        measured["constants_that_may_be_the_steps"] = "; ".join(suspects)
    return proof.model_copy(update={"measured": measured, "passed": proof.passed and not suspects})


def _manifest(file: Path, name: str, models: Path, form: Form[Candidate], proofs: tuple[Proof, ...]) -> Manifest:
    model = form.made.model
    return Manifest(
        name=name,
        version=next_version(models / name),
        precision="fp32",
        inputs=model.inputs,
        lengths_input=LENGTHS,
        outputs=model.outputs,
        stepwise=model.state is not None,
        state=model.state,
        equal_lengths=form.equal_lengths,
        input_range=form.data.input_range,
        file=ModelFile(sha256=hashlib.sha256(model.content).hexdigest(), bytes=len(model.content)),
        proofs=proofs,
        tools=tool_versions(),
        source={"file": file.name, "sha256": sha256_of(file)},
        created=now(),
    )
