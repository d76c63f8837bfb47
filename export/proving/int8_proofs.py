"""What INT8 costs and gains, measured against the FP32 version it was made from."""

from collections.abc import Mapping, Sequence

import onnx

from export.graphs import all_constants, bytes_of
from export.proving.accuracy import Comparison
from export.proving.difference import Difference
from export.proving.latency import Latency, describe_cpu
from export.proving.proofs import COMPANY_BATCHES, measure_chunks, measure_company
from export.runtime import Row, Runtime
from serving.manifest import Proof

Measured = Mapping[str, float | int | str]

RMS_LIMIT = 0.2
"""Relative RMS error from which the products are saturating, not rounding (measured on LSTMs of hidden 64 to 512)."""


def prove_accuracy(
    comparison: Comparison, sizes: Measured, *, counts: Mapping[str, str], real: bool, form: str = "int8"
) -> Proof:
    """Judge INT8's answers, and put in how many nodes of each operator are INT8 and what that saves.

    A model without float outputs has no RMS error; its share of equal integers is reported.

    Args:
        comparison: with FP32.
        sizes: by `measure_bytes`.
        counts: of INT8 nodes, by operator.
        real: the rows compared are real data.
        form: name of the proof.
    """
    measured: dict[str, float | int | str] = {f"{operator}_quantized": text for operator, text in counts.items()}
    measured |= comparison.figures
    measured |= {"rows": comparison.count, "data": "real" if real else "noise", **sizes}
    if comparison.floats is None:
        return Proof(name=form, passed=True, measured=measured)
    return Proof(
        name=form,
        passed=comparison.floats.rms_relative <= RMS_LIMIT,
        measured=measured,
        limit={"rms_relative": RMS_LIMIT},
    )


def measure_bytes(
    fp32: bytes, contents: Sequence[bytes], *, form: str, packed_bytes: int = 0
) -> dict[str, float | int | str]:
    """Return bytes of the files, and the shares of files and of weights: all constants, scales and tables included.

    Args:
        fp32: the FP32 file.
        contents: the smaller form's ONNX files.
        form: of this precision, or engine.
        packed_bytes: of its weights beside these.
    """
    size = packed_bytes + sum(map(len, contents))
    return {
        "fp32_bytes": len(fp32),
        f"{form}_bytes": size,
        "size": size / len(fp32),
        "weights_share": (packed_bytes + sum(map(weight_bytes, contents))) / weight_bytes(fp32),
    }


def weight_bytes(content: bytes) -> int:
    """Return the bytes of all constants of a file."""
    return sum(bytes_of(tensor) for tensor in all_constants(onnx.load_from_string(content).graph).values())


def report_company(int8: Runtime, pool: Sequence[Row], *, equal_lengths: bool) -> Proof:
    """Measure how far batched answers are from solo ones. DynamicQuantizeLSTM has one scale for the whole batch."""
    measured = shared_figures(measure_company(int8, pool, equal_lengths=equal_lengths))
    lengths = "equal" if equal_lengths else "mixed"
    return Proof(name="company", passed=True, measured=measured | {"lengths": lengths, "batches": COMPANY_BATCHES})


def report_chunks(int8: Runtime, pool: Sequence[Row]) -> Proof:
    """Measure how far answers in chunks are from those of one run, whose scales are those of the whole sequence."""
    return Proof(name="chunks", passed=True, measured=shared_figures(measure_chunks(int8, pool)))


def shared_figures(difference: Difference) -> dict[str, float | int | str]:
    """Return how far the answers of one file are from its own: floats by size, integers by how many are equal."""
    measured: dict[str, float | int | str] = {}
    floats = difference.floats
    if floats is not None:
        measured = {"relative": floats.relative, "mean_relative": floats.mean_relative}
        if floats.argmax_agreement is not None:
            measured["argmax_agreement"] = floats.argmax_agreement
    if difference.equal_share is not None:
        measured["equal_share"] = difference.equal_share
    return measured


def report_latency(latencies: Sequence[Latency]) -> Proof:
    """Put the timings into the manifest's form: seconds of each form, and how many times faster than FP32 it is."""
    measured: dict[str, float | int | str] = {"cpu": describe_cpu(), "threads": 1, "steps": latencies[0].steps}
    for latency in latencies:
        for form, seconds in latency.seconds.items():
            measured[f"{latency.name}_{form}_seconds"] = seconds
            if form != "fp32":
                measured[f"{latency.name}_{form}_speedup"] = latency.speedup(form)
    return Proof(name="latency", passed=True, measured=measured)
