"""`lstm-export torch`: from a PyTorch model to a proven FP32 version."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from export.artefact import next_version, tool_versions, write_version
from export.ctc import check_logarithms, decodings, read_symbols
from export.data import NOISE_WARNING, Data, check_indices, noise, pool, read_data
from export.errors import CarriedStateUnsupported
from export.job import Job, finite, now
from export.proving.proofs import prove_chunks, prove_company, prove_parity
from export.proving.recorded import ORIGINAL_FILE, record, recorded_rows
from export.pytorch.culprit import explain_padding
from export.pytorch.loading import lengths_parameter, load_model
from export.pytorch.recurrent import Observed, projection_notes
from export.pytorch.reference import Reference
from export.pytorch.to_onnx import Exported, to_onnx
from export.pytorch.trace import observe_layers
from export.reporting.plot import plot_parity
from export.reporting.report import describe
from export.runtime import Row, Runtime
from export.spec import LENGTHS, ExportSpec
from serving.manifest import CtcDecoding, Manifest, ModelFile, Proof, sha256_of

READS_NOTE = "These lines cover the real steps of each row by `lengths`, not the padding: {lines}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The loaded model and all that exporting it takes."""

    model: nn.Module
    spec: ExportSpec
    lengths_parameter: str | None
    observed: Observed
    data: Data | None
    symbols: tuple[str, ...]
    """Of the CTC output, if there is one."""

    def export(self, *, carry_state: bool) -> Exported:
        return to_onnx(
            self.model,
            self.spec,
            lengths_parameter=self.lengths_parameter,
            observed=self.observed,
            carry_state=carry_state,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    """A graph with the proofs so far, and why it is not better than it is."""

    exported: Exported
    runtime: Runtime
    pool: list[Row]
    data: Data
    proofs: list[Proof]
    equal_lengths: bool
    warnings: list[str]
    notes: list[str]
    decodings: tuple[CtcDecoding, ...]


def export_torch(spec: ExportSpec, models: Path, job: Job) -> Path:
    """Export, prove and write the next version under `models`; returns its folder.

    Raises:
        ExportError: the model, its weights, the spec or the data cannot be used.
        ProofFailed: a proof failed and `job.force` is off.
    """
    symbols = () if spec.ctc is None else read_symbols(spec.ctc)
    with job.step(f"loading {spec.factory}"):
        model = load_model(spec)
        lengths = lengths_parameter(model, spec)
        observed = observe_layers(model, spec, lengths_parameter=lengths)
        tensors = [model_input.tensor for model_input in spec.inputs]
        data = None if job.data is None else read_data(job.data, tensors)
    source = _Source(model=model, spec=spec, lengths_parameter=lengths, observed=observed, data=data, symbols=symbols)
    proven = _prove_alone(source, job)
    with job.step("proving parity with PyTorch"):
        reference = Reference(model=model, spec=spec, lengths_parameter=lengths, exported=proven.exported)
        parity = prove_parity(proven.runtime, reference, proven.pool, equal_lengths=proven.equal_lengths)
    proofs = tuple(finite(proof) for proof in (parity, *proven.proofs))
    forced = job.forced(proofs)
    manifest = _manifest(spec, models, proven, proofs, forced=forced)
    plot = plot_parity(proven.runtime, reference, proven.pool)
    answers = record(reference, recorded_rows(proven.exported.model))
    directory = write_version(
        models,
        manifest,
        proven.exported.model.content,
        lambda written: {**describe(written, plot), ORIGINAL_FILE: answers},
    )
    job.close(directory, manifest)
    return directory


def _prove_alone(source: _Source, job: Job) -> _Proven:
    """Export with carried state if that can be proven, else without; prove company on what was exported."""
    with job.step("exporting with carried state"):
        try:
            exported = source.export(carry_state=True)
        except CarriedStateUnsupported as error:
            exported, reason = None, str(error)
    if exported is not None:
        proven = _prove_company(exported, source, job)
        if proven.equal_lengths:
            reason = "its answers depend on padding"
        else:
            with job.step("proving chunks with carried state"):
                chunks = prove_chunks(proven.runtime, proven.pool)
            if chunks.passed:
                proven.proofs.append(chunks)
                return proven
            reason = f"chunks with carried state differ from one run by {chunks.measured['relative']} of the output"
    with job.step(f"exporting as a whole-sequence model: {reason}"):
        exported = source.export(carry_state=False)
    proven = _prove_company(exported, source, job)
    proven.notes.append(f"It is not stepwise: {reason}.")
    return proven


def _prove_company(exported: Exported, source: _Source, job: Job) -> _Proven:
    ctc = source.spec.ctc
    texts = () if ctc is None else decodings(ctc, source.symbols, exported.model)
    data = noise(exported.model) if source.data is None else source.data
    check_indices(data, exported.model.inputs)
    check_indices(data, exported.model.inputs)
    rows = pool(data, exported.model.inputs)
    runtime = Runtime(exported.model)
    if ctc is not None:
        check_logarithms(ctc, runtime.answer(rows[-1:]))
    with job.step(f"proving that company never matters ({data.name})"):
        company, equal_lengths = prove_company(runtime, rows)
    lines = [f"`{line}`" for line in dict.fromkeys(exported.reads_by_lengths)]
    notes = projection_notes(source.model) + ([READS_NOTE.format(lines="; ".join(lines))] if lines else [])
    warnings = []
    if equal_lengths:
        with job.step("looking for what reads the padding"):
            warnings.append(explain_padding(exported, rows, float(company.measured["mixed_lengths_relative"])))
    return _Proven(
        exported=exported,
        runtime=runtime,
        pool=rows,
        data=data,
        proofs=[company],
        equal_lengths=equal_lengths,
        warnings=warnings,
        notes=notes,
        decodings=texts,
    )


def _manifest(spec: ExportSpec, models: Path, proven: _Proven, proofs: tuple[Proof, ...], *, forced: bool) -> Manifest:
    model = proven.exported.model
    return Manifest(
        name=spec.name,
        version=next_version(models / spec.name),
        precision="fp32",
        inputs=model.inputs,
        lengths_input=LENGTHS,
        outputs=model.outputs,
        stepwise=model.state is not None,
        state=model.state,
        equal_lengths=proven.equal_lengths,
        input_range=proven.data.input_range,
        file=ModelFile(sha256=hashlib.sha256(model.content).hexdigest(), bytes=len(model.content)),
        decodings=proven.decodings,
        proofs=proofs,
        warnings=(*proven.warnings, *([] if proven.data.real else [NOISE_WARNING])),
        notes=tuple(proven.notes),
        forced=forced,
        tools=tool_versions(),
        source={
            "factory": spec.factory,
            "weights": spec.weights.name,
            "weights_sha256": sha256_of(spec.weights),
        },
        created=now(),
    )
