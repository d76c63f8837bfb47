"""`lstm-export torch`: from a PyTorch model to a proven FP32 version."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from export.artefact import next_version, tool_versions, write_version
from export.ctc import check_logarithms, decodings, read_symbols
from export.data import NOISE_WARNING, Data, check_indices, noise, read_data
from export.job import Job, finite, now
from export.model import OnnxModel
from export.proving.best_form import Form, best_form
from export.proving.proofs import prove_parity
from export.proving.recorded import ORIGINAL_FILE, record, recorded_rows
from export.pytorch.culprit import explain_padding
from export.pytorch.loading import lengths_parameter, load_model
from export.pytorch.recurrent import Observed, projection_notes
from export.pytorch.reference import Reference
from export.pytorch.to_onnx import Exported, to_onnx
from export.pytorch.trace import observe_layers
from export.reporting.plot import plot_parity
from export.reporting.report import describe
from export.spec import LENGTHS, ExportSpec
from serving.manifest import CtcDecoding, Manifest, ModelFile, sha256_of

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

    def export(self, carry_state: bool) -> Exported:  # noqa: FBT001  the one choice there is
        exported = to_onnx(
            self.model,
            self.spec,
            lengths_parameter=self.lengths_parameter,
            observed=self.observed,
            carry_state=carry_state,
        )
        self.decodings(exported)  # symbols that do not fit are told before anything is proven
        return exported

    def decodings(self, exported: Exported) -> tuple[CtcDecoding, ...]:
        return () if self.spec.ctc is None else decodings(self.spec.ctc, self.symbols, exported.model)

    def rows(self, model: OnnxModel) -> Data:
        data = noise(model) if self.data is None else self.data
        check_indices(data, model.inputs)
        return data


def export_torch(spec: ExportSpec, models: Path, job: Job) -> Path:
    """Export, prove and write the next version under `models`; returns its folder.

    Raises:
        ExportError: the model, its weights, the spec or the data cannot be used.
        ProofFailed: a proof failed and `job.force` is off.
    """
    source = _load(spec, job)
    form = best_form(source.export, source.rows, job)
    if spec.ctc is not None:
        check_logarithms(spec.ctc, form.runtime.answer(form.pool[-1:]))
    with job.step("proving parity with PyTorch"):
        reference = Reference(
            model=source.model, spec=spec, lengths_parameter=source.lengths_parameter, exported=form.made
        )
        parity = prove_parity(form.runtime, reference, form.pool, equal_lengths=form.equal_lengths)
    proofs = tuple(finite(proof) for proof in (parity, *form.proofs))
    forced = job.forced(proofs)
    manifest = _manifest(source, models, form, _warnings(form, job)).model_copy(
        update={"proofs": proofs, "forced": forced}
    )
    plot = plot_parity(form.runtime, reference, form.pool)
    answers = record(reference, recorded_rows(form.made.model))
    directory = write_version(
        models,
        manifest,
        form.made.model.content,
        lambda written: {**describe(written, plot), ORIGINAL_FILE: answers},
    )
    job.close(directory, manifest)
    return directory


def _load(spec: ExportSpec, job: Job) -> _Source:
    symbols = () if spec.ctc is None else read_symbols(spec.ctc)
    with job.step(f"loading {spec.factory}"):
        model = load_model(spec)
        lengths = lengths_parameter(model, spec)
        observed = observe_layers(model, spec, lengths_parameter=lengths)
        tensors = [model_input.tensor for model_input in spec.inputs]
        data = None if job.data is None else read_data(job.data, tensors)
    return _Source(model=model, spec=spec, lengths_parameter=lengths, observed=observed, data=data, symbols=symbols)


def _warnings(form: Form[Exported], job: Job) -> list[str]:
    warnings = [] if form.data.real else [NOISE_WARNING]
    if form.equal_lengths:
        with job.step("looking for what reads the padding"):
            warnings.insert(0, explain_padding(form.made, form.pool, form.padding_error))
    return warnings


def _notes(source: _Source, form: Form[Exported]) -> list[str]:
    lines = [f"`{line}`" for line in dict.fromkeys(form.made.reads_by_lengths)]
    reads = [READS_NOTE.format(lines="; ".join(lines))] if lines else []
    return [*projection_notes(source.model), *reads, *form.notes]


def _manifest(source: _Source, models: Path, form: Form[Exported], warnings: list[str]) -> Manifest:
    spec, model = source.spec, form.made.model
    return Manifest(
        name=spec.name,
        version=next_version(models / spec.name),
        precision="fp32",
        inputs=model.inputs,
        lengths_input=LENGTHS,
        outputs=model.outputs,
        stepwise=model.state is not None,
        state=model.state,
        equal_lengths=form.equal_lengths,
        input_range=form.data.input_range,
        file=ModelFile(sha256=hashlib.sha256(model.content).hexdigest(), bytes=len(model.content)),
        decodings=source.decodings(form.made),
        proofs=(),
        warnings=tuple(warnings),
        notes=tuple(_notes(source, form)),
        tools=tool_versions(),
        source={
            "factory": spec.factory,
            "weights": spec.weights.name,
            "weights_sha256": sha256_of(spec.weights),
        },
        created=now(),
    )
