"""Whether INT8 pays for a model on this machine, and if not, which target it misses and why."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from export.graphs import all_constants, all_nodes, bytes_of
from export.proving.latency import BATCHES
from export.smaller.quantize import Quantized

Measured = Mapping[str, float | int | str]
WEIGHTS_TARGET = 0.26
"""Bytes of the weights over those of FP32: one byte for four, and a hundredth for scales and biases."""
LATENCY_TARGET = 0.40
"""Time of one row over that of FP32."""
RMS_TARGET = 0.05
"""Relative RMS error against FP32."""
SMALL_HIDDEN = 256
"""Layers below this fit a processor's cache in FP32 as well; INT8's gain is less traffic (measured)."""
VNNI = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp")
PAYS = 1.1
"""Speed-up below which a gain is within what timings on a shared machine wander."""


def verdict(latency: Measured) -> str:
    """Return in a sentence whether INT8 is faster here, from the figures of the proof `latency`."""
    speedups = {batch: float(latency[f"batch_{batch}_speedup"]) for batch in BATCHES}
    if min(speedups.values()) >= PAYS:
        return "INT8 pays on this machine: it is faster at every batch size that was timed."
    if max(speedups.values()) < PAYS:
        return "INT8 does not pay in time on this machine; it saves memory only."
    faster = [str(batch) for batch, speedup in speedups.items() if speedup >= PAYS]
    return f"INT8 pays on this machine at batch {', '.join(faster)} only."


def missed_targets(quantized: Quantized, accuracy: Measured, latency: Measured) -> tuple[str, ...]:
    """Return a sentence for each target that INT8 misses, with the reason; none if it meets them.

    Args:
        quantized: the INT8 model.
        accuracy: figures of the proof `int8`.
        latency: figures of the proof `latency`.
    """
    hidden = _largest_hidden(quantized)
    missed = []
    share = float(accuracy["weights_share"])
    if share > WEIGHTS_TARGET:
        missed.append(
            f"INT8 misses its target for memory: the weights take {share:.0%} of FP32's bytes, the target is "
            f"{WEIGHTS_TARGET:.0%}. {_why_large(quantized)}"
        )
    ratio = 1 / float(latency["batch_1_speedup"])
    if ratio > LATENCY_TARGET:
        missed.append(
            f"INT8 misses its target for latency: one row takes {ratio:.2f} of FP32's time, the target is "
            f"{LATENCY_TARGET:.2f}. {_why_slow(hidden, str(latency['cpu']))} {verdict(latency)}"
        )
    error = float(accuracy.get("rms_relative", 0.0))
    if error > RMS_TARGET:
        missed.append(
            f"INT8 misses its target for accuracy: the outputs differ from FP32's by {error:.1%} of their RMS, the "
            f"target is {RMS_TARGET:.0%}. Activations of a run share one scale, which its largest value sets: look for "
            "values that lie far out, and judge by your own --metric whether the error matters."
        )
    return tuple(missed)


def _why_large(quantized: Quantized) -> str:
    """Say what the bytes that are not INT8 consist of."""
    constants = all_constants(onnx.load_from_string(quantized.model.content).graph)
    total = sum(bytes_of(tensor) for tensor in constants.values())
    in_int8 = sum(bytes_of(tensor) for tensor in constants.values() if tensor.data_type == TensorProto.INT8)
    shared = {
        name: node.operator == "Gather" for node in quantized.left for name in node.constants if name in constants
    }
    tables = sum(bytes_of(constants[name]) for name, is_table in shared.items() if is_table)
    layers = sum(bytes_of(constants[name]) for name, is_table in shared.items() if not is_table)
    parts = {
        "INT8 weights and zero points": in_int8,
        "tables of embeddings, in float": tables,
        "layers that stayed float": layers,
        "biases, scales and other constants, in float": total - in_int8 - tables - layers,
    }
    shown = "; ".join(f"{name} {size / total:.0%}" for name, size in parts.items() if size > 0)
    return f"What the file's constants are: {shown}."


def _why_slow(hidden: int, cpu: str) -> str:
    if hidden == 0:
        return "Its recurrent layers stayed float."
    if hidden < SMALL_HIDDEN:
        return (
            f"Its largest INT8 layer has {hidden} units: below {SMALL_HIDDEN} the FP32 weights fit the cache as well, "
            "and quantizing activations at every step takes what the products save."
        )
    if not any(flag in cpu for flag in VNNI):
        return "This processor has no VNNI instructions, so INT8 products gain less than they can."
    return "The time goes to what stays in float: gates, and the layers that are not INT8."


def _largest_hidden(quantized: Quantized) -> int:
    graph = onnx.load_from_string(quantized.model.content).graph
    return max(
        (
            int(attribute.i)
            for node in all_nodes(graph)
            if node.op_type == "DynamicQuantizeLSTM"
            for attribute in node.attribute
            if attribute.name == "hidden_size"
        ),
        default=0,
    )
