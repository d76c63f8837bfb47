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

RMS_LIMIT = 0.2
"""Relative RMS error from which the products are saturating, not rounding (measured on LSTMs of hidden 64 to 512)."""


def prove_accuracy(
    comparison: Comparison, fp32: Runtime, int8: Runtime, *, counts: Mapping[str, str], real: bool
) -> Proof:
    """Judge INT8's answers, and put in how many nodes of each operator are INT8 and what that saves.

    A model without float outputs has no RMS error; its share of equal integers is reported.
    """
    measured: dict[str, float | int | str] = {f"{operator}_quantized": text for operator, text in counts.items()}
    measured |= comparison.figures
    measured |= {"rows": comparison.count, "data": "real" if real else "noise"}
    measured |= measure_bytes(fp32.model.content, int8.model.content, precision="int8")
    if comparison.floats is None:
        return Proof(name="int8", passed=True, measured=measured)
    return Proof(
        name="int8",
        passed=comparison.floats.rms_relative <= RMS_LIMIT,
        measured=measured,
        limit={"rms_relative": RMS_LIMIT},
    )


def measure_bytes(fp32: bytes, smaller: bytes, *, precision: str) -> dict[str, float | int | str]:
    """Return bytes of both files, and the shares of file and of weights: all constants, scales and tables included."""
    weights = [weight_bytes(content) for content in (fp32, smaller)]
    return {
        "fp32_bytes": len(fp32),
        f"{precision}_bytes": len(smaller),
        "size": len(smaller) / len(fp32),
        "weights_share": weights[1] / weights[0],
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


def report_latency(latencies: Sequence[Latency], *, precision: str = "int8") -> Proof:
    """Put the timings into the manifest's form."""
    measured: dict[str, float | int | str] = {"cpu": describe_cpu(), "threads": 1, "steps": latencies[0].steps}
    for latency in latencies:
        measured[f"batch_{latency.rows}_fp32_seconds"] = latency.fp32_seconds
        measured[f"batch_{latency.rows}_{precision}_seconds"] = latency.smaller_seconds
        measured[f"batch_{latency.rows}_speedup"] = latency.speedup
    return Proof(name="latency", passed=True, measured=measured)
