"""`lstm-export quantize`: from a proven FP32 version to an INT8 one beside it."""

import hashlib
from pathlib import Path

from export.artefact import next_version, tool_versions, write_version
from export.data import Data, noise, pool, read_data
from export.errors import ExportError
from export.int8_proofs import prove_accuracy, report_chunks, report_company, report_latency
from export.job import Job, finite, now
from export.latency import Latency, compare_latency
from export.model import OnnxModel
from export.plot import plot_outputs
from export.quantize import Quantized, quantize, recurrent_nodes
from export.report import PLOT_FILE, REPORT_FILE, write_report
from export.runtime import Runtime
from serving.manifest import Int8, Manifest, ModelFile, Proof, read_manifest

NOISE_WARNING = (
    "the figures were made with noise, not with real sequences, so they say little about accuracy, and the server "
    "cannot clip values that would stretch the INT8 scales; give --data FILE.npz"
)


def export_int8(directory: Path, job: Job) -> Path:
    """Quantize the FP32 version in `directory`, measure and write the next version; returns its folder.

    Raises:
        ArtifactError: `directory` holds no intact version.
        ExportError: it is not FP32, onnxruntime left recurrent nodes in float, or the data do not fit.
        ProofFailed: INT8 is too far from FP32 and `job.force` is off.
    """
    directory = directory.resolve()
    source = read_manifest(directory)
    if source.precision != "fp32":
        raise ExportError(f"{directory}: is {source.precision} already; quantize the FP32 version it was made from")
    model = _model(source, (directory / source.file.name).read_bytes())
    data = noise(model) if job.data is None else read_data(job.data, model.inputs)
    with job.step("quantizing"):
        quantized = quantize(model)
    fp32, int8 = Runtime(model), Runtime(quantized.model)
    latencies, proofs = _prove((fp32, int8), quantized, data, source, job)
    forced = job.forced(proofs) or source.forced
    warnings = [] if data.real else [NOISE_WARNING]
    manifest = _manifest(source, directory, quantized, data, proofs).model_copy(update={"forced": forced})
    plot = plot_outputs(fp32, int8, data.rows)
    written = write_version(
        directory.parent.parent,
        manifest,
        quantized.model.content,
        lambda final: {
            REPORT_FILE: write_report(final, warnings=warnings, latencies=latencies).encode(),
            PLOT_FILE: plot,
        },
    )
    job.close(written, manifest, warnings)
    return written


def _model(source: Manifest, content: bytes) -> OnnxModel:
    return OnnxModel(
        content=content,
        inputs=source.inputs,
        outputs=source.outputs,
        state=source.state,
        recurrent_nodes=recurrent_nodes(content),
    )


def _prove(
    pair: tuple[Runtime, Runtime], quantized: Quantized, data: Data, source: Manifest, job: Job
) -> tuple[list[Latency], tuple[Proof, ...]]:
    fp32, int8 = pair
    rows = pool(data, source.inputs)
    with job.step(f"comparing with FP32 ({data.name})"):
        proofs = [prove_accuracy(fp32, int8, quantized, data)]
    with job.step("measuring what company does"):
        proofs.append(report_company(int8, rows, equal_lengths=source.equal_lengths))
        if source.stepwise:
            proofs.append(report_chunks(int8, rows))
    with job.step("timing FP32 and INT8 in turns"):
        latencies = compare_latency(fp32, int8, data.rows)
    proofs.append(report_latency(latencies))
    return latencies, tuple(finite(proof) for proof in proofs)


def _manifest(
    source: Manifest, directory: Path, quantized: Quantized, data: Data, proofs: tuple[Proof, ...]
) -> Manifest:
    content = quantized.model.content
    return Manifest(
        name=source.name,
        version=next_version(directory.parent),
        precision="int8",
        inputs=source.inputs,
        lengths_input=source.lengths_input,
        outputs=source.outputs,
        stepwise=source.stepwise,
        state=source.state,
        equal_lengths=source.equal_lengths,
        input_range=data.input_range,
        int8=Int8(
            engine="onnxruntime",
            per_channel=True,
            reduce_range=True,
            quantized_nodes=quantized.nodes,
            float_nodes=quantized.float_nodes,
            source_version=source.version,
        ),
        file=ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        proofs=proofs,
        tools=tool_versions(),
        source=source.source,
        created=now(),
    )
