"""`report.md`: what a person reads of an artefact."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from export.latency import Latency
from serving.manifest import TIME, Datatype, Manifest, Proof, Tensor

REPORT_FILE = "report.md"
PLOT_FILE = "report.png"
EXAMPLE_STEPS = 20
PAYS = 1.1
"""Speed-up below which a gain is within what timings on a shared machine wander."""
COMPANY_NOTE = (
    "onnxruntime scales activations by the largest value in the whole batch, so an answer depends a little on its "
    "company; the proof `company` says how much on these data. `argmax_agreement` matters if the output holds scores."
)
MEANINGS = {
    "parity": "the file in onnxruntime against PyTorch, which got each row alone",
    "company": "a row in random batches against the same row alone, same file",
    "chunks": "chunks with carried state against one run, same file",
    "int8": "INT8 against FP32, each row alone",
    "latency": "median time of one run, FP32 against INT8",
}


def write_report(
    manifest: Manifest, *, warnings: Sequence[str], notes: Sequence[str] = (), latencies: Sequence[Latency] = ()
) -> str:
    """Return the report in Markdown.

    Args:
        manifest: of the version it describes.
        warnings: sentences that the reader must not miss.
        notes: sentences on how the model was exported.
        latencies: FP32 against INT8; for an INT8 version.
    """
    sections = [
        [
            f"# {manifest.name}, version {manifest.version} ({manifest.precision.upper()})",
            "",
            " ".join([_summary(manifest), *notes]),
        ],
        ["\n\n".join(f"> **Warning:** {warning}" for warning in warnings)] if warnings else [],
        ["## How to call it", "", "```python", *_snippet(manifest), "```"],
        ["## Tensors", "", *_tensors(manifest)],
        ["## Proofs", "", *_proofs(manifest.proofs)],
        _int8(manifest, latencies),
        ["## Where it came from", "", *_table(("what", "value"), [*manifest.source.items(), *manifest.tools.items()])],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _summary(manifest: Manifest) -> str:
    batching = "share batches only with rows of their own length" if manifest.equal_lengths else "share batches"
    kind = "can run in chunks and carry its state" if manifest.stepwise else "runs each sequence as a whole"
    forced = " **Written with --force: a proof failed.**" if manifest.forced else ""
    return f"{manifest.file.bytes:,} bytes. Rows {batching}; the model {kind}.{forced}"


def _snippet(manifest: Manifest) -> list[str]:
    lines = [
        "import numpy as np",
        "import tritonclient.grpc as grpc",
        "",
        'client = grpc.InferenceServerClient("localhost:8001")',
        "inputs = []",
    ]
    for tensor in manifest.inputs:
        shape = [1 if axis == "batch" else EXAMPLE_STEPS if axis == TIME else axis for axis in tensor.shape]
        lines += [
            f"values = np.zeros({shape}, {_numpy(tensor.datatype)})  # [{', '.join(map(str, tensor.shape))}]",
            f'inputs.append(grpc.InferInput("{tensor.name}", list(values.shape), "{tensor.datatype}"))',
            "inputs[-1].set_data_from_numpy(values)",
        ]
    lines.append(f'answer = client.infer("{manifest.name}", inputs, model_version="{manifest.version}")')
    lines += [f'print(answer.as_numpy("{tensor.name}"))' for tensor in manifest.outputs]
    return lines


def _numpy(datatype: Datatype) -> str:
    match datatype:
        case "FP32":
            return "np.float32"
        case "INT32":
            return "np.int32"
        case "INT64":
            return "np.int64"
    assert_never(datatype)


def _tensors(manifest: Manifest) -> list[str]:
    rows = [_tensor_row("input", tensor, manifest) for tensor in manifest.inputs]
    if manifest.lengths_input is not None:
        rows.append(("input", manifest.lengths_input, "INT64", "[batch]", "steps of each row; may be left out"))
    rows += [_tensor_row("output", tensor, manifest) for tensor in manifest.outputs]
    if manifest.state is not None:
        shape = f"[batch, {manifest.state.size}]"
        rows.append(("graph input", manifest.state.input, "FP32", shape, "the server starts every request from zeros"))
        rows.append(("graph output", manifest.state.output, "FP32", shape, "not part of an answer"))
    return _table(("side", "name", "type", "shape", "note"), rows)


def _tensor_row(side: str, tensor: Tensor, manifest: Manifest) -> tuple[str, ...]:
    note = ""
    if tensor.name in manifest.input_range and side == "input":
        low, high = manifest.input_range[tensor.name]
        note = f"values from {low:.4g} to {high:.4g} in the data"
    elif side == "output":
        note = "one part per step" if tensor.follows_time else "one per row"
    return side, tensor.name, tensor.datatype, f"[{', '.join(map(str, tensor.shape))}]", note


def _proofs(proofs: Iterable[Proof]) -> list[str]:
    rows = []
    for proof in proofs:
        verdict = "reported" if proof.limit is None else "passed" if proof.passed else "**FAILED**"
        limit = ", ".join(f"{key} <= {value:g}" for key, value in (proof.limit or {}).items())
        measured = ", ".join(f"{key} {_number(value)}" for key, value in proof.measured.items())
        rows.append((proof.name, MEANINGS[proof.name], measured, limit, verdict))
    return _table(("proof", "what", "measured", "limit", "verdict"), rows)


def _int8(manifest: Manifest, latencies: Sequence[Latency]) -> list[str]:
    if manifest.int8 is None:
        return []
    accuracy = next(proof.measured for proof in manifest.proofs if proof.name == "int8")
    share = int(accuracy["int8_bytes"]) / int(accuracy["fp32_bytes"])
    verdict = (
        f"{_verdict(latencies)} The file is {share:.1%} of version {manifest.int8.source_version}'s (FP32), and the "
        f"outputs differ from it by {_number(accuracy['rms_relative'])} of their RMS."
    )
    left = ", ".join(manifest.int8.float_nodes) or "none"
    nodes = f"INT8 nodes: {', '.join(manifest.int8.quantized_nodes)}. Left in float: {left}."
    rows = [
        (
            str(latency.rows),
            str(latency.steps),
            f"{latency.fp32_seconds * 1e3:.3f}",
            f"{latency.int8_seconds * 1e3:.3f}",
            f"x{latency.speedup:.2f}",
        )
        for latency in latencies
    ]
    return [
        "## INT8",
        "",
        verdict,
        "",
        *_table(("batch", "steps", "FP32 ms", "INT8 ms", "INT8 is"), rows),
        "",
        nodes,
        "",
        COMPANY_NOTE,
        "",
        f"![INT8 against FP32]({PLOT_FILE})",
    ]


def _verdict(latencies: Sequence[Latency]) -> str:
    speedups = [latency.speedup for latency in latencies]
    if min(speedups) >= PAYS:
        return "INT8 pays on this machine: it is faster at every batch size that was timed."
    if max(speedups) < PAYS:
        return "INT8 does not pay in time on this machine; it saves memory only."
    faster = [str(latency.rows) for latency in latencies if latency.speedup >= PAYS]
    return f"INT8 pays on this machine at batch {', '.join(faster)} only."


def _number(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
