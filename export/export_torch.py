"""`lstm-export torch`: from a PyTorch model to a proven FP32 version."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from export.artefact import next_version, tool_versions, write_version
from export.data import Data, noise, pool, read_data
from export.errors import CarriedStateUnsupported
from export.job import Job, finite, now
from export.loading import lengths_parameter, load_model
from export.proofs import prove_chunks, prove_company, prove_parity
from export.recurrent import Observed
from export.reference import Reference
from export.report import REPORT_FILE, write_report
from export.runtime import Row, Runtime
from export.spec import LENGTHS, ExportSpec
from export.to_onnx import Exported, to_onnx
from export.trace import observe_layers
from serving.manifest import Manifest, ModelFile, Proof, sha256_of

NOISE_WARNING = "the figures were made with noise, not with real sequences; give --data FILE.npz"

READS_NOTE = "Reads of the last step that go by `lengths` instead of by the end of the batch: {count}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The loaded model and all that exporting it takes."""

    model: nn.Module
    spec: ExportSpec
    lengths_parameter: str | None
    observed: Observed
    data: Data | None

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


def export_torch(spec: ExportSpec, models: Path, job: Job) -> Path:
    """Export, prove and write the next version under `models`; returns its folder.

    Raises:
        ExportError: the model, its weights, the spec or the data cannot be used.
        ProofFailed: a proof failed and `job.force` is off.
    """
    with job.step(f"loading {spec.factory}"):
        model = load_model(spec)
        lengths = lengths_parameter(model, spec)
        observed = observe_layers(model, spec, lengths_parameter=lengths)
        tensors = [model_input.tensor for model_input in spec.inputs]
        data = None if job.data is None else read_data(job.data, tensors)
    source = _Source(model=model, spec=spec, lengths_parameter=lengths, observed=observed, data=data)
    proven = _prove_alone(source, job)
    with job.step("proving parity with PyTorch"):
        reference = Reference(model=model, spec=spec, lengths_parameter=lengths, exported=proven.exported)
        parity = prove_parity(proven.runtime, reference, proven.pool, equal_lengths=proven.equal_lengths)
    proofs = tuple(finite(proof) for proof in (parity, *proven.proofs))
    forced = job.forced(proofs)
    warnings = [*proven.warnings, *([] if proven.data.real else [NOISE_WARNING])]
    manifest = _manifest(spec, models, proven, proofs, forced=forced)
    directory = write_version(
        models,
        manifest,
        proven.exported.model.content,
        lambda written: {REPORT_FILE: write_report(written, warnings=warnings, notes=proven.notes).encode()},
    )
    job.close(directory, manifest, warnings)
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
    data = noise(exported.model) if source.data is None else source.data
    rows = pool(data, exported.model.inputs)
    runtime = Runtime(exported.model)
    with job.step(f"proving that company never matters ({data.name})"):
        company, equal_lengths = prove_company(runtime, rows)
    notes = [READS_NOTE.format(count=exported.reads_by_lengths)] if exported.reads_by_lengths else []
    warnings = []
    if equal_lengths:
        warnings.append(
            f"in a padded batch of mixed lengths answers change by {company.measured['mixed_lengths_relative']:.2g} of "
            "the largest output, because forward reads padded steps (a mean, a maximum, attention, a convolution or a "
            "reversal over time). Rows are therefore batched only with rows of their own length. To lift that, let "
            f"forward take '{LENGTHS}', pack the sequence, and mask what it reads over time"
        )
    return _Proven(
        exported=exported,
        runtime=runtime,
        pool=rows,
        data=data,
        proofs=[company],
        equal_lengths=equal_lengths,
        warnings=warnings,
        notes=notes,
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
        proofs=proofs,
        forced=forced,
        tools=tool_versions(),
        source={
            "factory": spec.factory,
            "weights": spec.weights.name,
            "weights_sha256": sha256_of(spec.weights),
        },
        created=now(),
    )
