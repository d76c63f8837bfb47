"""Which recurrent nodes of a graph the native engine can run, and their weights as it takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from serving.engine.native.weights import FloatLayer

RECURRENT: tuple[Literal["LSTM", "GRU", "RNN"], ...] = ("LSTM", "GRU", "RNN")
STANDARD = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
"""Activations of one direction, as the ONNX operators have them unless told otherwise."""
RELU = ["Relu"]
W, R, B, LENGTHS, INITIAL_H, INITIAL_C, P = 1, 2, 3, 4, 5, 6, 7
"""Places of the operators' inputs after x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeLayer:
    """A node and its weights, or why the native engine cannot run it."""

    node: NodeProto
    layer: FloatLayer | None
    reason: str = ""


def native_layers(graph: GraphProto) -> list[NativeLayer]:
    """Return the recurrent nodes of the graph itself, in its order; what Loop and Scan hold stays with onnxruntime."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in RECURRENT:
            reason = _reason(node, constants)
            layer = None if reason else _layer(node, constants)
            found.append(NativeLayer(node=node, layer=layer, reason=reason))
    return found


def input_of(node: NodeProto, place: int) -> str | None:
    """Return the name of an input; None where the node leaves it out."""
    return node.input[place] if len(node.input) > place and node.input[place] else None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _activations(attributes: Mapping[str, Any]) -> list[str]:
    return [name.decode() for name in attributes.get("activations", [])]


def _reason(node: NodeProto, constants: Mapping[str, TensorProto]) -> str:
    """Return why the native engine cannot run a node; empty if it can."""
    attributes = _attributes(node)
    directions = 2 if attributes.get("direction", b"forward") == b"bidirectional" else 1
    activations = _activations(attributes)
    allowed: list[list[str]] = [[], STANDARD[node.op_type] * directions]
    if node.op_type == "RNN":
        allowed.append(RELU * directions)
    if activations not in allowed:
        return f"its activations are {', '.join(activations)}; the native engine has the standard ones"
    for attribute in ("clip", "activation_alpha", "activation_beta", "input_forget", "layout"):
        if attributes.get(attribute):
            return f"the native engine has no '{attribute}'"
    for place, what in ((W, "weights"), (R, "recurrent weights"), (B, "biases"), (P, "peepholes")):
        tensor = None if (name := input_of(node, place)) is None else constants.get(name)
        if tensor is None and (name is not None or place in {W, R}):
            return f"its {what} are computed in the graph; the native engine takes constants only"
        if tensor is not None and tensor.data_type != TensorProto.FLOAT:
            return f"its {what} are no FP32"
    return ""


def _layer(node: NodeProto, constants: Mapping[str, TensorProto]) -> FloatLayer:
    attributes = _attributes(node)

    def array(place: int) -> NDArray[np.float32] | None:
        name = input_of(node, place)
        return None if name is None else np.asarray(numpy_helper.to_array(constants[name]), np.float32)

    w, r = array(W), array(R)
    assert w is not None
    assert r is not None
    operator: Literal["LSTM", "GRU", "RNN"] = next(name for name in RECURRENT if name == node.op_type)
    names: tuple[Literal["forward", "reverse", "bidirectional"], ...] = ("forward", "reverse", "bidirectional")
    direction = attributes.get("direction", b"forward").decode()
    return FloatLayer(
        operator=operator,
        direction=next(name for name in names if name == direction),
        w=w,
        r=r,
        b=array(B),
        p=array(P) if operator == "LSTM" else None,
        linear_before_reset=bool(attributes.get("linear_before_reset", 0)),
        relu=_activations(attributes)[:1] == RELU,
    )
