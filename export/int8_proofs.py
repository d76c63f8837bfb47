"""What INT8 costs and gains, measured against the FP32 version it was made from."""

from collections.abc import Sequence

from export.data import Data
from export.difference import Difference
from export.latency import Latency, describe_cpu
from export.proofs import COMPANY_BATCHES, measure_chunks, measure_company
from export.quantize import Quantized
from export.runtime import Row, Runtime
from serving.manifest import Proof

RMS_LIMIT = 0.2
"""Relative RMS error from which the products are saturating, not rounding (measured on LSTMs of hidden 64 to 512)."""


def prove_accuracy(fp32: Runtime, int8: Runtime, quantized: Quantized, data: Data) -> Proof:
    """Compare INT8 with FP32 on each row alone, so that only rounding counts."""
    difference = Difference(int8.model.outputs)
    for row in data.rows:
        difference.add(int8.answer([row])[0], fp32.answer([row])[0])
    measured: dict[str, float | int | str] = {
        "quantized_nodes": len(quantized.nodes),
        "rms_relative": difference.rms_relative,
        "relative": difference.relative,
        "max_abs": difference.max_abs,
        "cosine": difference.cosine,
        "rows": len(data.rows),
        "data": "real" if data.real else "noise",
        "fp32_bytes": len(fp32.model.content),
        "int8_bytes": len(int8.model.content),
    }
    if difference.argmax_agreement is not None:
        measured["argmax_agreement"] = difference.argmax_agreement
    return Proof(
        name="int8",
        passed=difference.rms_relative <= RMS_LIMIT,
        measured=measured,
        limit={"rms_relative": RMS_LIMIT},
    )


def report_company(int8: Runtime, pool: Sequence[Row], *, equal_lengths: bool) -> Proof:
    """Measure how far batched answers are from solo ones. DynamicQuantizeLSTM has one scale for the whole batch."""
    difference = measure_company(int8, pool, equal_lengths=equal_lengths)
    measured: dict[str, float | int | str] = {
        "relative": difference.relative,
        "mean_relative": difference.mean_relative,
        "lengths": "equal" if equal_lengths else "mixed",
        "batches": COMPANY_BATCHES,
    }
    if difference.argmax_agreement is not None:
        measured["argmax_agreement"] = difference.argmax_agreement
    return Proof(name="company", passed=True, measured=measured)


def report_chunks(int8: Runtime, pool: Sequence[Row]) -> Proof:
    """Measure how far answers in chunks are from those of one run, whose scales are those of the whole sequence."""
    difference = measure_chunks(int8, pool)
    measured: dict[str, float | int | str] = {
        "relative": difference.relative,
        "mean_relative": difference.mean_relative,
    }
    return Proof(name="chunks", passed=True, measured=measured)


def report_latency(latencies: Sequence[Latency]) -> Proof:
    """Put the timings into the manifest's form."""
    measured: dict[str, float | int | str] = {"cpu": describe_cpu(), "threads": 1, "steps": latencies[0].steps}
    for latency in latencies:
        measured[f"batch_{latency.rows}_fp32_seconds"] = latency.fp32_seconds
        measured[f"batch_{latency.rows}_int8_seconds"] = latency.int8_seconds
        measured[f"batch_{latency.rows}_speedup"] = latency.speedup
    return Proof(name="latency", passed=True, measured=measured)
