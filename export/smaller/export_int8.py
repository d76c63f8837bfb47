"""`lstm-export quantize`: from a proven FP32 version to an INT8 one beside it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import NOISE_WARNING, Data, noise, pool, read_data
from export.errors import ExportError
from export.job import Checks, Job, finite, now
from export.model import OnnxModel
from export.proving.accuracy import Comparison, compare
from export.proving.gate import prove_gate
from export.proving.int8_proofs import prove_accuracy, report_chunks, report_company, report_latency
from export.proving.latency import Latency, compare_latency
from export.proving.metric import report_metric
from export.proving.payoff import missed_targets
from export.proving.saturation import prove_saturation
from export.reporting.plot import plot_smaller
from export.reporting.report import describe
from export.runtime import Row, Runtime
from export.smaller.quantize import FloatNode, Quantized, quantize, recurrent_nodes
from serving.manifest import Int8, Manifest, ModelFile, Proof, read_manifest

INT8 = "int8"
INT8_NOISE_WARNING = (
    "as noise has no range, the server cannot clip values that would stretch the INT8 scales of a whole batch"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Both versions and what they are judged with."""

    source: Manifest
    fp32: Runtime
    int8: Runtime
    quantized: Quantized
    data: Data
    rows: list[Row]


def export_int8(directory: Path, job: Job, checks: Checks | None = None) -> Path:
    """Quantize the FP32 version in `directory`, measure and write the next version; returns its folder.

    Args:
        directory: of the version.
        job: how the command runs.
        checks: the user's own metric and limits.

    Raises:
        ArtifactError: `directory` holds no intact version.
        ExportError: it is not FP32, onnxruntime can quantize nothing in it, or the data or the metric do not fit.
        ProofFailed: INT8 is too far from FP32 or beyond the user's limits, and `job.force` is off.
    """
    checks = checks or Checks()
    directory = directory.resolve()
    source = read_manifest(directory)
    model = load_fp32(source, directory)
    extras = checks.metric is not None
    data = noise(model) if job.data is None else read_data(job.data, model.inputs, extras=extras)
    with job.step("quantizing"):
        quantized = quantize(model)
    pair = _Pair(
        source=source,
        fp32=Runtime(model),
        int8=Runtime(quantized.model),
        quantized=quantized,
        data=data,
        rows=pool(data, source.inputs),
    )
    proofs, comparison, latencies = _prove(pair, checks, job)
    forced = job.forced(proofs) or source.forced
    manifest = _manifest(pair, directory, proofs, forced=forced)
    ladder = compare(pair.fp32, pair.int8, pair.rows)
    plot = plot_smaller(comparison, (*comparison.rows, *ladder.rows), latencies, name="INT8")
    written = write_version(
        directory.parent.parent, manifest, quantized.model.content, lambda final: describe(final, plot)
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


def _prove(pair: _Pair, checks: Checks, job: Job) -> tuple[tuple[Proof, ...], Comparison, list[Latency]]:
    proofs = [prove_saturation(pair.quantized.model.content)]
    with job.step(f"comparing with FP32 ({pair.data.name})"):
        comparison = compare(pair.fp32, pair.int8, pair.data.rows)
        counts, real = pair.quantized.counts, pair.data.real
        proofs.insert(0, prove_accuracy(comparison, pair.fp32, pair.int8, counts=counts, real=real))
    with job.step("measuring what company does"):
        proofs.append(report_company(pair.int8, pair.rows, equal_lengths=pair.source.equal_lengths))
        if pair.source.stepwise:
            proofs.append(report_chunks(pair.int8, pair.rows))
    with job.step("timing FP32 and INT8 in turns"):
        latencies = compare_latency(pair.fp32, pair.int8, pair.data.rows)
    proofs.append(report_latency(latencies))
    if checks.metric is not None:
        with job.step(f"running {checks.metric.name}"):
            proofs.append(report_metric(checks.metric, pair.fp32, pair.int8, pair.data, precision=INT8))
    if checks.gate:
        proofs.append(prove_gate(checks.gate, proofs, precision=INT8))
    return tuple(finite(proof) for proof in proofs), comparison, latencies


def _warnings(pair: _Pair, proofs: Sequence[Proof]) -> tuple[str, ...]:
    figures = {proof.name: proof.measured for proof in proofs}
    return (
        *(warning for warning in pair.source.warnings if warning != NOISE_WARNING),
        *([] if pair.data.real else [NOISE_WARNING, INT8_NOISE_WARNING]),
        *_left_warning(pair.quantized.left),
        *missed_targets(pair.quantized, figures[INT8], figures["latency"]),
    )


def _left_warning(left: Sequence[FloatNode]) -> list[str]:
    if not left:
        return []
    named = "; ".join(f"'{node.name}' ({node.operator}, {node.bytes:,} bytes): {node.reason}" for node in left)
    return [f"{len(left)} of the nodes that hold weights stayed float: {named}"]


def _manifest(pair: _Pair, directory: Path, proofs: tuple[Proof, ...], *, forced: bool) -> Manifest:
    content = pair.quantized.model.content
    return pair.source.model_copy(
        update={
            "version": next_version(directory.parent),
            "precision": INT8,
            "input_range": pair.data.input_range,
            "int8": Int8(
                engine="onnxruntime",
                per_channel=True,
                reduce_range=True,
                quantized_nodes=pair.quantized.nodes,
                float_nodes=pair.quantized.float_nodes,
                source_version=pair.source.version,
            ),
            "file": ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
            "proofs": proofs,
            "warnings": _warnings(pair, proofs),
            "forced": forced,
            "tools": tool_versions(),
            "created": now(),
        }
    )
