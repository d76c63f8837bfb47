"""Whether INT8 products can overflow on processors without VNNI, computed from the weights of the finished file.

AVX2 and AVX-512 without VNNI multiply unsigned activations with signed weights by VPMADDUBSW, which adds the products
of two neighbours along the axis of reduction in 16 bits and saturates. A pair of weights is at risk if activations of 0
to 255 exist for which that sum leaves 16 bits; as activations are never negative, its extremes are 255 times the sum of
its positive weights and 255 times the sum of its negative ones.
Source: Intel's intrinsics guide (_mm256_maddubs_epi16), and onnxruntime's documentation of `reduce_range`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from export.graphs import all_constants, all_nodes
from export.smaller.quantize import plain_name
from serving.manifest import Proof

ACTIVATION_LIMIT = 255
LARGEST, SMALLEST = 32767, -32768
WEIGHTS = {"DynamicQuantizeLSTM": (1, 2), "MatMulInteger": (1,)}
"""Inputs with signed weights, whose axis of reduction is the last but one: [..., reduction, output]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """What a node's weights allow.

    Attributes:
        pairs: neighbours along the axis of reduction.
        at_risk: of these the ones whose sum can leave 16 bits.
        worst: the extreme that lies furthest out.
    """

    node: str
    pairs: int
    at_risk: int
    worst: int


def saturation(content: bytes) -> list[Saturation]:
    """Return what the weights of each INT8 node of a file allow, in the order of the file."""
    graph = onnx.load_from_string(content).graph
    constants = all_constants(graph)
    found = []
    for node in all_nodes(graph):
        tensors = list(_weights(node, constants))
        if tensors:
            found.append(_judge(plain_name(node.name), tensors))
    return found


def prove_saturation(content: bytes) -> Proof:
    """Prove from the weights of an INT8 file that no pair of products can overflow 16 bits."""
    nodes = saturation(content)
    pairs = sum(node.pairs for node in nodes)
    at_risk = sum(node.at_risk for node in nodes)
    worst = max(nodes, key=lambda node: abs(node.worst), default=None)
    measured: dict[str, float | int | str] = {"share": at_risk / pairs if pairs else 0.0, "pairs": pairs}
    if worst is not None:
        measured |= {"worst": worst.worst, "worst_node": worst.node}
    measured |= {f"at_risk {node.node}": node.at_risk for node in nodes}
    return Proof(name="saturation", passed=at_risk == 0, measured=measured, limit={"share": 0.0})


def _weights(node: NodeProto, constants: dict[str, TensorProto]) -> Iterator[NDArray[np.int64]]:
    for place in WEIGHTS.get(node.op_type, ()):
        tensor = constants.get(node.input[place])
        if tensor is not None and tensor.data_type == TensorProto.INT8:
            yield numpy_helper.to_array(tensor).astype(np.int64)


def _judge(name: str, tensors: list[NDArray[np.int64]]) -> Saturation:
    highest = [_pair_sums(np.maximum(tensor, 0)) * ACTIVATION_LIMIT for tensor in tensors]
    lowest = [_pair_sums(np.minimum(tensor, 0)) * ACTIVATION_LIMIT for tensor in tensors]
    at_risk = [(high > LARGEST) | (low < SMALLEST) for high, low in zip(highest, lowest, strict=True)]
    extremes = [int(high.max()) for high in highest] + [int(low.min()) for low in lowest]
    return Saturation(
        node=name,
        pairs=sum(risk.size for risk in at_risk),
        at_risk=sum(int(risk.sum()) for risk in at_risk),
        worst=max(extremes, key=abs),
    )


def _pair_sums(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return w[2i] + w[2i + 1] along the axis of reduction; the last of an odd number stands alone."""
    even, odd = weights[..., 0::2, :], weights[..., 1::2, :]
    sums = even.copy()
    sums[..., : odd.shape[-2], :] += odd
    return sums
