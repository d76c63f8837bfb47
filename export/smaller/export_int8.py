"""`lstm-export quantize`: from a proven FP32 version to an INT8 one beside it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import NOISE_WARNING, noise, pool, read_data
from export.errors import ExportError
from export.job import Checks, Job, finite, now
from export.model import OnnxModel
from export.proving.accuracy import compare
from export.proving.payoff import Smaller, missed_targets
from export.reporting.plot import plot_smaller
from export.reporting.report import describe
from export.runtime import Runtime
from export.smaller.coverage import FloatNode, named
from export.smaller.int8_forms import PORTABLE_IS_FLOAT, EngineName, make_forms, open_forms
from export.smaller.int8_judging import Judged, Subject, judge
from export.smaller.quantize import recurrent_nodes
from serving.manifest import Int8, Manifest, ModelFile, read_manifest

INT8 = "int8"
INT8_NOISE_WARNING = (
    "as noise has no range, the server cannot clip values that would stretch the INT8 scales of a whole batch"
)


def export_int8(directory: Path, job: Job, checks: Checks | None = None, *, engine: EngineName = "auto") -> Path:
    """Quantize the FP32 version in `directory`, measure and write the next version; returns its folder.

    Args:
        directory: of the version.
        job: how the command runs.
        checks: the user's own metric and limits.
        engine: `onnxruntime` writes standard operators only. `native` adds the form that the native engine runs, and
            prefers it; `auto` does so where that was built, and prefers the faster form.

    Raises:
        ArtifactError: `directory` holds no intact version.
        ExportError: it is not FP32, nothing in it can be quantized, the native engine was asked for and cannot have it,
            or the data or the metric do not fit.
        ProofFailed: INT8 is too far from FP32 or beyond the user's limits, and `job.force` is off.
    """
    checks = checks or Checks()
    directory = directory.resolve()
    source = read_manifest(directory)
    model = load_fp32(source, directory)
    extras = checks.metric is not None
    data = noise(model) if job.data is None else read_data(job.data, model.inputs, extras=extras)
    fp32, rows = Runtime(model), pool(data, source.inputs)
    with job.step("quantizing"):
        forms = make_forms(fp32, rows, engine, equal_lengths=source.equal_lengths)
    runtimes = {"fp32": fp32, **open_forms(forms, model)}
    subject = Subject(source=source, data=data, rows=rows, forms=forms, runtimes=runtimes)
    judged = judge(subject, engine, checks, job)
    judged = replace(judged, proofs=tuple(finite(proof) for proof in judged.proofs))
    forced = job.forced(judged.proofs) or source.forced
    manifest = _manifest(judged, directory, forced=forced)
    ladder = compare(fp32, runtimes[judged.preferred], rows)
    errors = (*judged.comparison.rows, *ladder.rows)
    plot = plot_smaller(judged.comparison, errors, judged.latencies, name="INT8")
    forms = judged.subject.forms
    written = write_version(
        directory.parent.parent,
        manifest,
        forms.portable.model.content,
        lambda final: describe(final, plot),
        None if forms.native is None else forms.native.files,
    )
    job.close(written, manifest)
    return written


def load_fp32(source: Manifest, directory: Path) -> OnnxModel:
    """Return the model of an FP32 version.

    Raises:
        ExportError: the version has another precision.
    """
    if source.precision != "fp32":
        raise ExportError(f"{directory}: is {source.precision} already; give the FP32 version it was made from")
    return read_model(source, directory)


def read_model(manifest: Manifest, directory: Path) -> OnnxModel:
    """Return the model of a version, of any precision."""
    content = (directory / manifest.file.name).read_bytes()
    return OnnxModel(
        content=content,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        state=manifest.state,
        recurrent_nodes=recurrent_nodes(content),
    )


def _preferred(judged: Judged) -> Smaller:
    native = judged.subject.forms.native
    return native if judged.preferred == "native" and native is not None else judged.subject.forms.portable


def _warnings(judged: Judged) -> tuple[str, ...]:
    subject, form = judged.subject, judged.preferred
    figures = {proof.name: proof.measured for proof in judged.proofs}
    preferred = _preferred(judged)
    return (
        *(warning for warning in subject.source.warnings if warning != NOISE_WARNING),
        *([] if subject.data.real else [NOISE_WARNING, INT8_NOISE_WARNING]),
        *_left_warning(preferred.coverage.left),
        *([] if subject.forms.portable.coverage.nodes else [PORTABLE_IS_FLOAT]),
        *missed_targets(preferred, figures[form], figures["latency"], form),
    )


def _left_warning(left: Sequence[FloatNode]) -> list[str]:
    return [f"{len(left)} of the nodes that hold weights stayed float: {named(left)}"] if left else []


def _manifest(judged: Judged, directory: Path, *, forced: bool) -> Manifest:
    subject, coverage = judged.subject, _preferred(judged).coverage
    forms, content = subject.forms, subject.forms.portable.model.content
    return subject.source.model_copy(
        update={
            "version": next_version(directory.parent),
            "precision": INT8,
            "input_range": subject.data.input_range,
            "int8": Int8(
                engine="native" if judged.preferred == "native" else "onnxruntime",
                per_channel=True,
                reduce_range=True,
                quantized_nodes=coverage.nodes,
                float_nodes=coverage.float_nodes,
                source_version=subject.source.version,
            ),
            "native": None if forms.native is None else forms.native.plan,
            "file": ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
            "proofs": judged.proofs,
            "warnings": _warnings(judged),
            "notes": (*subject.source.notes, *([forms.note] if forms.note else [])),
            "forced": forced,
            "tools": tool_versions(),
            "created": now(),
        }
    )
