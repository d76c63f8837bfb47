"""Overflow of 16 bits is found in the weights of the file, pair by pair."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.proving.saturation import prove_saturation, saturation
from export.smaller.export_int8 import read_model
from export.smaller.quantize import quantize
from serving.manifest import read_manifest
from tests.support.artefacts import write_lstm


def _product(weights: list[list[int]]) -> bytes:
    """Return a file of one MatMulInteger with these weights, int8[reduction, output]."""
    array = np.array(weights, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="head_quant")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch", len(array)])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", array.shape[1]])],
        initializer=[numpy_helper.from_array(array, "w")],
    )
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


@pytest.mark.parametrize(
    ("pair", "at_risk", "worst"),
    [
        ((64, 64), 0, 32640),
        ((-64, -64), 0, -32640),
        ((64, 65), 1, 32895),
        ((-64, -65), 1, -32895),
        ((127, -127), 0, 32385),
        ((127, 2), 1, 32895),
        ((0, 0), 0, 0),
    ],
)
def test_a_pair_is_at_risk_if_its_positive_or_its_negative_part_leaves_16_bits(
    pair: tuple[int, int], at_risk: int, worst: int
) -> None:
    """Weights of opposite signs cannot overflow together, because activations are never negative."""
    [node] = saturation(_product([[pair[0]], [pair[1]]]))

    assert (node.node, node.pairs, node.at_risk, node.worst) == ("head", 1, at_risk, worst)


def test_pairs_lie_along_the_reduction_and_an_odd_last_weight_stands_alone() -> None:
    [node] = saturation(_product([[127, 0], [0, 0], [127, 127], [127, 0], [127, 127]]))

    assert (node.pairs, node.at_risk) == (6, 1)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lstm(tmp_path_factory.mktemp("models"), hidden=24)


def test_reduced_range_is_free_of_risk(fp32: Path) -> None:
    proof = prove_saturation(quantize(read_model(read_manifest(fp32), fp32)).model.content)

    assert proof.passed
    assert proof.measured["share"] == 0
    assert proof.measured["at_risk lstm"] == 0
    assert proof.measured["pairs"] == 2 * 4 * 24 * (2 + 12)
    assert 30000 < abs(int(proof.measured["worst"])) <= 2 * 64 * 255


def test_full_range_is_at_risk_and_fails_the_proof(fp32: Path, tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    quantize_dynamic(
        onnx.load(fp32 / "model.onnx"),
        path,
        op_types_to_quantize=["LSTM"],
        per_channel=True,
        reduce_range=False,
        weight_type=QuantType.QInt8,
    )

    proof = prove_saturation(path.read_bytes())

    assert not proof.passed
    assert 0.02 < float(proof.measured["share"]) < 1
    assert abs(int(proof.measured["worst"])) > 32768
    assert int(proof.measured["at_risk lstm"]) > 0
