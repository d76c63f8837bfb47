"""Whether INT8 pays for a model on this machine, and if not, which target it misses and why."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import onnx
from onnx import TensorProto

from export.graphs import all_constants, bytes_of
from export.proving.latency import BATCHES
from export.smaller.coverage import Coverage

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


class Smaller(Protocol):
    """An INT8 form of a model: onnxruntime's or the native engine's."""

    @property
    def coverage(self) -> Coverage:
        """What became of the nodes that hold weights."""

    @property
    def contents(self) -> Sequence[bytes]:
        """The ONNX files that hold it."""

    @property
    def packed_bytes(self) -> int:
        """Bytes of INT8 weights beside the ONNX files."""

    @property
    def largest_hidden(self) -> int:
        """Units of the largest INT8 recurrent layer; 0 if there is none."""


def verdict(latency: Measured, form: str = "int8") -> str:
    """Return in a sentence whether INT8 is faster here.

    Args:
        latency: figures of the proof `latency`.
        form: "int8" or "native", as these figures call it.
    """
    speedups = {batch: float(latency[f"batch_{batch}_{form}_speedup"]) for batch in BATCHES}
    if min(speedups.values()) >= PAYS:
        return "INT8 pays on this machine: it is faster at every batch size that was timed."
    if max(speedups.values()) < PAYS:
        return "INT8 does not pay in time on this machine; it saves memory only."
    faster = [str(batch) for batch, speedup in speedups.items() if speedup >= PAYS]
    return f"INT8 pays on this machine at batch {', '.join(faster)} only."


def missed_targets(smaller: Smaller, accuracy: Measured, latency: Measured, form: str = "int8") -> tuple[str, ...]:
    """Return a sentence for each target that INT8 misses, with the reason; none if it meets them.

    Args:
        smaller: the form of the model that is preferred.
        accuracy: figures of its proof against FP32.
        latency: figures of the proof `latency`.
        form: as in `verdict`.
    """
    missed = []
    share = float(accuracy["weights_share"])
    if share > WEIGHTS_TARGET:
        missed.append(
            f"INT8 misses its target for memory: the weights take {share:.0%} of FP32's bytes, the target is "
            f"{WEIGHTS_TARGET:.0%}. {_why_large(smaller)}"
        )
    ratio = 1 / float(latency[f"batch_1_{form}_speedup"])
    if ratio > LATENCY_TARGET:
        missed.append(
            f"INT8 misses its target for latency: one row takes {ratio:.2f} of FP32's time, the target is "
            f"{LATENCY_TARGET:.2f}. {_why_slow(smaller.largest_hidden, str(latency['cpu']))} {verdict(latency, form)}"
        )
    error = float(accuracy.get("rms_relative", 0.0))
    if error > RMS_TARGET:
        missed.append(
            f"INT8 misses its target for accuracy: the outputs differ from FP32's by {error:.1%} of their RMS, the "
            f"target is {RMS_TARGET:.0%}. Activations that are rounded together share one scale, which the largest "
            "value sets: look for values that lie far out, and judge by your own --metric whether the error matters."
        )
    return tuple(missed)


def _why_large(smaller: Smaller) -> str:
    """Say what the bytes that are not INT8 consist of."""
    constants: dict[str, TensorProto] = {}
    for content in smaller.contents:
        constants |= all_constants(onnx.load_from_string(content).graph)
    total = smaller.packed_bytes + sum(bytes_of(tensor) for tensor in constants.values())
    in_int8 = sum(bytes_of(tensor) for tensor in constants.values() if tensor.data_type == TensorProto.INT8)
    left = smaller.coverage.left
    shared = {name: node.operator == "Gather" for node in left for name in node.constants if name in constants}
    tables = sum(bytes_of(constants[name]) for name, is_table in shared.items() if is_table)
    layers = sum(bytes_of(constants[name]) for name, is_table in shared.items() if not is_table)
    parts = {
        "INT8 weights and zero points": in_int8,
        "INT8 weights with their scales and biases": smaller.packed_bytes,
        "tables of embeddings, in float": tables,
        "layers that stayed float": layers,
        "biases, scales and other constants, in float": total - smaller.packed_bytes - in_int8 - tables - layers,
    }
    shown = "; ".join(f"{name} {size / total:.0%}" for name, size in parts.items() if size > 0)
    return f"What the version's constants are: {shown}."


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
