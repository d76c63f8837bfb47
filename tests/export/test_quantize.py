"""INT8: that it happens, and what the folder says of it."""

import onnx
import pytest

from export.data import noise
from export.difference import Difference
from export.errors import ExportError
from export.model import OnnxModel
from export.quantize import quantize, recurrent_nodes
from export.runtime import Runtime
from tests.export.models import Wide
from tests.export.support import exported


@pytest.fixture(scope="module")
def wide() -> OnnxModel:
    return exported(Wide, carry_state=True)[0].model


def test_weights_are_constants_even_of_wide_layers(wide: OnnxModel) -> None:
    """PyTorch's own export leaves weights of more than 8192 values to be computed, and quantization passes them over."""
    graph = onnx.load_from_string(wide.content).graph
    constants = {tensor.name for tensor in graph.initializer}

    lstm = [node for node in graph.node if node.op_type == "LSTM"]
    assert len(lstm) == 2
    assert all(set(node.input[1:4]) <= constants for node in lstm)


def test_layers_and_large_heads_become_int8_and_stay_close(wide: OnnxModel) -> None:
    quantized = quantize(wide)
    fp32, int8 = Runtime(wide), Runtime(quantized.model)
    difference = Difference(wide.outputs)
    for row in noise(wide).rows[:8]:
        difference.add(int8.answer([row])[0], fp32.answer([row])[0])

    operators = [node.op_type for node in onnx.load_from_string(quantized.model.content).graph.node]
    assert operators.count("DynamicQuantizeLSTM") == 2
    assert operators.count("MatMulInteger") == 1
    assert quantized.nodes[:2] == recurrent_nodes(wide.content) == ("lstm.layer0", "lstm.layer1")
    assert not quantized.float_nodes
    assert len(quantized.model.content) < 0.3 * len(wide.content)
    assert 0 < difference.rms_relative < 0.02
    assert difference.cosine > 0.999


def test_a_layer_that_onnxruntime_silently_leaves_in_float_is_an_error(wide: OnnxModel) -> None:
    proto = onnx.load_from_string(wide.content)
    for node in [node for node in proto.graph.node if node.op_type == "LSTM"]:
        proto.graph.node.insert(0, onnx.helper.make_node("Identity", [node.input[1]], [f"{node.name}_computed"]))
        node.input[1] = f"{node.name}_computed"
    computed = OnnxModel(
        content=proto.SerializeToString(),
        inputs=wide.inputs,
        outputs=wide.outputs,
        state=wide.state,
        recurrent_nodes=wide.recurrent_nodes,
    )

    with pytest.raises(ExportError, match=r"lstm.layer0.*in float"):
        quantize(computed)
