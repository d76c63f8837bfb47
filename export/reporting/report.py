"""`report.md`: what a person reads of an artefact. Its warnings and notes stand in the manifest as well."""

from collections.abc import Iterable
from typing import assert_never

from export.proving.gate import is_least
from export.reporting.markdown import number, table
from export.reporting.report_sections import precision_sections
from serving.manifest import TIME, CtcDecoding, Datatype, Manifest, Proof, Tensor
from serving.plan import Plan

REPORT_FILE = "report.md"
PLOT_FILE = "report.png"
EXAMPLE_STEPS = 20
MEANINGS = {
    "parity": "the file in onnxruntime against the original model, which got each row alone",
    "company": "a row in random batches against the same row alone, same file",
    "chunks": "chunks with carried state against one run, same file",
    "int8": "INT8 against FP32, each row alone",
    "cut": "every tensor between the native form's parts, its layers in FP32, against the whole graph's",
    "native": "the native engine's INT8 against FP32, each row alone",
    "native_company": "a row in 1,000 random batches against the same row alone, native form",
    "native_chunks": "chunks with carried state against one run, native form",
    "fp16": "FP16 against FP32, each row alone",
    "fp16_emulated": "FP16 against FP32, each row alone, on the CPU, where sums are FP32",
    "fp16_long": "FP16 against FP32 on long sequences",
    "fp16_long_emulated": "the same on the CPU; a stepwise model's state is rounded to FP16 after every step",
    "saturation": "pairs of INT8 products that can overflow 16 bits, from the weights",
    "metric": "the user's metric, FP32 against each form of this version; the loss is that of the preferred one",
    "gate": "the user's limits",
    "latency": "median time of one run, FP32 against each form of this version",
}


def describe(manifest: Manifest, plot: bytes) -> dict[str, bytes]:
    """Return the files that a person reads, by name: the report and its plot."""
    return {REPORT_FILE: write_report(manifest).encode(), PLOT_FILE: plot}


def write_report(manifest: Manifest) -> str:
    """Return the report in Markdown; it shows the plot that lies beside it."""
    sections = [
        [
            f"# {manifest.name}, version {manifest.version} ({manifest.precision.upper()})",
            "",
            " ".join([summary(manifest), *manifest.notes]),
        ],
        ["\n\n".join(f"> **Warning:** {warning}" for warning in manifest.warnings)] if manifest.warnings else [],
        ["## How to call it", "", "```python", *_snippet(manifest), "```"],
        ["## Tensors", "", *table(("side", "name", "type", "shape", "note"), tensor_rows(manifest))],
        ["## Proofs", "", *_proofs(manifest.proofs)],
        *precision_sections(manifest),
        ["## Plots", "", f"![errors]({PLOT_FILE})"],
        ["## Where it came from", "", *table(("what", "value"), [*manifest.source.items(), *manifest.tools.items()])],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def summary(manifest: Manifest) -> str:
    """Return in sentences how large the version is and how its rows are batched."""
    batching = "share batches only with rows of their own length" if manifest.equal_lengths else "share batches"
    kind = "can run in chunks and carry its state" if manifest.stepwise else "runs each sequence as a whole"
    forced = " **Written with --force: a proof failed.**" if manifest.forced else ""
    native = "" if manifest.native is None else _native_files(manifest.native)
    return f"{manifest.file.bytes:,} bytes{native}. Rows {batching}; the model {kind}.{forced}"


def _native_files(plan: Plan) -> str:
    return f", and {sum(file.bytes for file in plan.files):,} bytes of the native form beside it"


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
    lines += [
        f'print([text.decode() for text in answer.as_numpy("{decoding.name}")])' for decoding in manifest.decodings
    ]
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


def tensor_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    """Return side, name, type, shape and a note of every tensor of the graph and of every decoded text."""
    rows = [_tensor_row("input", tensor, manifest) for tensor in manifest.inputs]
    if manifest.lengths_input is not None:
        rows.append(("input", manifest.lengths_input, "INT64", "[batch]", "steps of each row; may be left out"))
    rows += [_tensor_row("output", tensor, manifest) for tensor in manifest.outputs]
    rows += [("output", decoding.name, "BYTES", "[batch]", _decoded(decoding)) for decoding in manifest.decodings]
    if manifest.state is not None:
        shape = f"[batch, {manifest.state.size}]"
        rows.append(("graph input", manifest.state.input, "FP32", shape, "the server starts every request from zeros"))
        rows.append(("graph output", manifest.state.output, "FP32", shape, "not part of an answer"))
    return rows


def _tensor_row(side: str, tensor: Tensor, manifest: Manifest) -> tuple[str, ...]:
    note = ""
    if tensor.name in manifest.input_range and side == "input":
        low, high = manifest.input_range[tensor.name]
        note = f"values from {low:.4g} to {high:.4g} in the data"
    elif side == "output":
        note = "one part per step" if tensor.follows_time else "one per row"
    return side, tensor.name, tensor.datatype, f"[{', '.join(map(str, tensor.shape))}]", note


def _decoded(decoding: CtcDecoding) -> str:
    how = "best path" if decoding.method == "greedy" else f"prefix beam search, width {decoding.beam_width}"
    return f"UTF-8 text of each row, decoded by the server from `{decoding.source}`: {how}"


def _proofs(proofs: Iterable[Proof]) -> list[str]:
    rows = []
    for proof in proofs:
        measured = ", ".join(f"{key} {number(value)}" for key, value in proof.measured.items())
        rows.append((proof.name, MEANINGS.get(proof.name, ""), measured, limits(proof), verdict(proof)))
    return table(("proof", "what", "measured", "limit", "verdict"), rows)


def limits(proof: Proof) -> str:
    """Return a proof's limits as a reader expects them, such as `rms <= 0.1`."""
    least = proof.name == "gate"
    return ", ".join(
        f"{key} {'>=' if least and is_least(key) else '<='} {value:g}" for key, value in (proof.limit or {}).items()
    )


def verdict(proof: Proof) -> str:
    """Return whether a proof passed; one without a limit is only reported."""
    return "reported" if proof.limit is None else "passed" if proof.passed else "**FAILED**"
