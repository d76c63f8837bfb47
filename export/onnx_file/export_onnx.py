"""`lstm-export onnx`: from an ONNX file made by others to a proven FP32 version."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import NOISE_WARNING, Data, noise, pool, read_data
from export.errors import CarriedStateUnsupported, ExportError
from export.job import Job, finite, now
from export.onnx_file.builder import Builder
from export.onnx_file.describe import export_notes, length_warning, padding_warning
from export.onnx_file.finish import Candidate, finish
from export.onnx_file.opening import Opened, open_file
from export.onnx_file.original import Original
from export.onnx_file.state import lift_state
from export.onnx_file.suspects import steps_in_constants
from export.proving.proofs import prove_chunks, prove_company, prove_parity
from export.proving.recorded import ORIGINAL_FILE, record, recorded_rows
from export.reporting.plot import plot_parity
from export.reporting.report import describe
from export.runtime import Row, Runtime
from export.spec import LENGTHS, ModelInput
from serving.manifest import NAME_PATTERN, Manifest, ModelFile, Proof, is_model_name, sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    """A graph with the proofs so far, and why it is not better than it is."""

    candidate: Candidate
    runtime: Runtime
    pool: list[Row]
    data: Data
    proofs: list[Proof]
    equal_lengths: bool
    warnings: list[str]
    notes: list[str]


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
    proven = _prove_alone(opened, job)
    freed = opened.freed
    original = Original(session=opened.session, plan=freed.plan, frozen=freed.frozen, candidate=proven.candidate)
    rows = original.rows(proven.pool, proven.data)
    with job.step("proving parity with the file"):
        parity = _prove_parity(original, proven, rows, freed.builder)
    proofs = tuple(finite(proof) for proof in (parity, *proven.proofs))
    forced = job.forced(proofs)
    warnings = [*proven.warnings, *length_warning(original), *([] if proven.data.real else [NOISE_WARNING])]
    notes = [*export_notes(freed, proven.candidate), *proven.notes]
    manifest = _manifest(file, name, models, proven, proofs).model_copy(
        update={"forced": forced, "warnings": tuple(warnings), "notes": tuple(notes)}
    )
    plot = plot_parity(proven.runtime, original, rows)
    answers = record(original, original.rows(recorded_rows(proven.candidate.model), noise(proven.candidate.model)))
    directory = write_version(
        models,
        manifest,
        proven.candidate.model.content,
        lambda written: {**describe(written, plot), ORIGINAL_FILE: answers},
    )
    job.close(directory, manifest)
    return directory


def _prove_alone(opened: Opened, job: Job) -> _Proven:
    """Carry the state if that can be proven, else do not; prove company on what is to be written."""
    try:
        lifted = lift_state(opened.freed)
    except CarriedStateUnsupported as error:
        lifted, reason = None, str(error)
    if lifted is not None:
        proven = _prove_company(finish(opened.freed, lifted), opened, job)
        if proven.equal_lengths:
            reason = "its answers depend on padding"
        else:
            with job.step("proving chunks with carried state"):
                chunks = prove_chunks(proven.runtime, proven.pool)
            if chunks.passed:
                proven.proofs.append(chunks)
                return proven
            reason = f"chunks with carried state differ from one run by {chunks.measured['relative']} of the output"
    with job.step(f"going on as a whole-sequence model: {reason}"):
        candidate = finish(opened.freed, None)
    proven = _prove_company(candidate, opened, job)
    proven.notes.append(f"It is not stepwise: {reason}.")
    return proven


def _prove_company(candidate: Candidate, opened: Opened, job: Job) -> _Proven:
    model = candidate.model
    data = noise(model) if job.data is None else read_data(job.data, model.inputs)
    rows = pool(data, model.inputs)
    runtime = Runtime(model)
    with job.step(f"proving that company never matters ({data.name})"):
        company, equal_lengths = prove_company(runtime, rows)
    measured = float(company.measured["mixed_lengths_relative"]) if equal_lengths else 0.0
    return _Proven(
        candidate=candidate,
        runtime=runtime,
        pool=rows,
        data=data,
        proofs=[company],
        equal_lengths=equal_lengths,
        warnings=[padding_warning(opened.freed, measured)] if equal_lengths else [],
        notes=[],
    )


def _prove_parity(original: Original, proven: _Proven, rows: list[Row], builder: Builder) -> Proof:
    """Compare with the file at the lengths that it takes; constants that no such length can judge fail the proof."""
    proof = prove_parity(proven.runtime, original, rows, equal_lengths=proven.equal_lengths)
    if original.lengths is None:
        return proof
    measured = {**proof.measured, "lengths": f"{original.lengths}, as the file is bound to"}
    suspects = [] if original.chunk else steps_in_constants(builder, original.frozen.time)
    if suspects:
        measured["constants_that_may_be_the_steps"] = "; ".join(suspects)
    return proof.model_copy(update={"measured": measured, "passed": proof.passed and not suspects})


def _manifest(file: Path, name: str, models: Path, proven: _Proven, proofs: tuple[Proof, ...]) -> Manifest:
    model = proven.candidate.model
    return Manifest(
        name=name,
        version=next_version(models / name),
        precision="fp32",
        inputs=model.inputs,
        lengths_input=LENGTHS,
        outputs=model.outputs,
        stepwise=model.state is not None,
        state=model.state,
        equal_lengths=proven.equal_lengths,
        input_range=proven.data.input_range,
        file=ModelFile(sha256=hashlib.sha256(model.content).hexdigest(), bytes=len(model.content)),
        proofs=proofs,
        tools=tool_versions(),
        source={"file": file.name, "sha256": sha256_of(file)},
        created=now(),
    )
