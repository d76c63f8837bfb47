"""`lstm-export half`: from a proven FP32 version to an FP16 one for GPUs beside it.

The proofs run on the CPU, which emulates FP16; `lstm-export verify --device cuda` repeats them on a GPU.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import NOISE_WARNING, Data, noise, pool, read_data
from export.job import Checks, Job, finite, now
from export.proving.accuracy import Comparison, compare
from export.proving.gate import prove_gate
from export.proving.half_proofs import FP16, prove_half
from export.proving.metric import report_metric
from export.reporting.plot import plot_smaller
from export.reporting.report import describe
from export.runtime import Row, Runtime
from export.smaller.export_int8 import load_fp32
from export.smaller.half import clipped_constants, to_half
from serving.manifest import Manifest, ModelFile, Proof, read_manifest

CPU_WARNING = (
    "the proofs ran on the CPU, which computes FP16 layers in FP32 between rounded tensors; repeat them where the "
    "model is served: lstm-export verify --device cuda"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """An FP16 model with its proofs."""

    runtime: Runtime
    proofs: list[Proof]
    comparison: Comparison
    float_state: bool


def export_half(directory: Path, job: Job, checks: Checks | None = None, *, float_state: bool = False) -> Path:
    """Convert the FP32 version in `directory` to FP16, prove and write the next version; returns its folder.

    Args:
        directory: of the version.
        job: how the command runs.
        checks: the user's own metric and limits.
        float_state: keep recurrent layers in FP32, even if FP16 ones pass the proofs.

    Raises:
        ArtifactError: `directory` holds no intact version.
        ExportError: it is not FP32, has loops, or the data or the metric do not fit.
        ProofFailed: FP16 is too far from FP32 or beyond the user's limits, and `job.force` is off.
    """
    checks = checks or Checks()
    directory = directory.resolve()
    source = read_manifest(directory)
    model = load_fp32(source, directory)
    extras = checks.metric is not None
    data = noise(model) if job.data is None else read_data(job.data, model.inputs, extras=extras)
    fp32, rows = Runtime(model), pool(data, source.inputs)
    with job.step(f"comparing FP16 with FP32 ({data.name})"):
        judged = _judge(source, fp32, data, rows, float_state=float_state)
        if not float_state and not all(proof.passed for proof in judged.proofs):
            judged = _judge(source, fp32, data, rows, float_state=True)
    proofs = judged.proofs
    if checks.metric is not None:
        runtimes = {"fp32": fp32, FP16: judged.runtime}
        proofs.append(report_metric(checks.metric, runtimes, data, judged=FP16))
    if checks.gate:
        proofs.append(prove_gate(checks.gate, proofs, precision=FP16))
    finished = tuple(finite(proof) for proof in proofs)
    manifest = _manifest(source, directory, judged, data, finished)
    forced = job.forced(finished) or source.forced
    ladder = compare(fp32, judged.runtime, rows)
    plot = plot_smaller(judged.comparison, (*judged.comparison.rows, *ladder.rows), [], name="FP16")
    written = write_version(
        directory.parent.parent,
        manifest.model_copy(update={"forced": forced}),
        judged.runtime.model.content,
        lambda final: describe(final, plot),
    )
    job.close(written, manifest)
    return written


def _judge(source: Manifest, fp32: Runtime, data: Data, rows: Sequence[Row], *, float_state: bool) -> _Judged:
    half = Runtime(to_half(fp32.model, float_state=float_state), half=True)
    proofs, comparison = prove_half(source, fp32, half, data, rows)
    return _Judged(runtime=half, proofs=proofs, comparison=comparison, float_state=float_state)


def _manifest(source: Manifest, directory: Path, judged: _Judged, data: Data, proofs: tuple[Proof, ...]) -> Manifest:
    content = judged.runtime.model.content
    carried = (warning for warning in source.warnings if warning != NOISE_WARNING)
    return source.model_copy(
        update={
            "version": next_version(directory.parent),
            "precision": FP16,
            "input_range": data.input_range,
            "file": ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
            "proofs": proofs,
            "warnings": (*carried, *([] if data.real else [NOISE_WARNING]), CPU_WARNING),
            "notes": (*source.notes, *_notes((directory / source.file.name).read_bytes(), judged)),
            "source": source.source | {"fp32_version": str(source.version)},
            "tools": tool_versions(),
            "created": now(),
        }
    )


def _notes(fp32: bytes, judged: _Judged) -> list[str]:
    notes = [
        "Recurrent layers and their cell state stay FP32; the other layers compute in FP16."
        if judged.float_state
        else "Recurrent layers compute in FP16, and cuDNN holds their cell state in FP16 between steps.",
        "Inputs, outputs and the state between requests are FP32, and so are softmax, normalizations and reductions.",
    ]
    clipped = clipped_constants(fp32)
    if clipped:
        notes.append(f"Constants beyond FP16's range were clipped to it: {', '.join(clipped)}.")
    return notes
