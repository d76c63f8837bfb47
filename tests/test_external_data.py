"""A version whose weights lie in other files is refused, wherever in the graph they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from serving.errors import ArtifactError
from serving.external_data import check_self_contained
from serving.manifest import read_manifest, sha256_of
from tests.support.artefacts import write_lstm
from tests.support.native import write_native

LOCATIONS = ["weights.bin", "../../secret", "/etc/passwd", "link.bin"]


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def plain() -> TensorProto:
    return numpy_helper.from_array(np.ones(2, np.float32), "w")


def as_initializer(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))


def as_constant(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([helper.make_node("Constant", [], ["w"], value=tensor)], "g", [], []))


def in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    branch = as_constant(tensor).graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=helper.make_graph([], "t", [], []), else_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_a_list(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([helper.make_node("Odd", [], [], many=[plain(), tensor])], "g", [], []))


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    model = as_initializer(plain())
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    model.functions.append(helper.make_function("d", "f", [], ["w"], [node], [helper.make_opsetid("", 20)]))
    return model


def as_sparse_values(tensor: TensorProto) -> onnx.ModelProto:
    model = as_initializer(plain())
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    return model


def in_training(tensor: TensorProto) -> onnx.ModelProto:
    model = as_initializer(plain())
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES = [as_initializer, as_constant, in_a_branch, in_a_list, in_a_function, as_sparse_values, in_training]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_a_tensor_elsewhere_is_found_and_one_inside_is_not_complained_of(
    tmp_path: Path, place: Callable[[TensorProto], onnx.ModelProto], location: str
) -> None:
    (tmp_path / "good.onnx").write_bytes(place(plain()).SerializeToString())
    (tmp_path / "bad.onnx").write_bytes(place(external(location)).SerializeToString())

    check_self_contained(tmp_path / "good.onnx")
    with pytest.raises(ArtifactError, match=r"bad\.onnx: its weights lie in other files"):
        check_self_contained(tmp_path / "bad.onnx")


@pytest.mark.parametrize("mark", ["location only", "data only"])
def test_half_a_mark_is_enough(tmp_path: Path, mark: str) -> None:
    tensor = external("weights.bin")
    tensor.ClearField("data_location" if mark == "data only" else "external_data")
    path = tmp_path / "model.onnx"
    path.write_bytes(as_initializer(tensor).SerializeToString())

    with pytest.raises(ArtifactError, match="external data"):
        check_self_contained(path)


def test_a_version_is_refused_although_its_checksum_is_right(tmp_path: Path) -> None:
    """Its file and the manifest agree; the weights beside it are under no checksum."""
    directory = write_lstm(tmp_path)
    path, manifest = directory / "model.onnx", directory / "manifest.json"
    before = sha256_of(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    manifest.write_text(manifest.read_text().replace(before, sha256_of(path)))

    with pytest.raises(ArtifactError, match="other files"):
        read_manifest(directory)


def test_parts_of_a_native_plan_are_looked_at_too(tmp_path: Path) -> None:
    directory = write_native(tmp_path, stepwise=True)
    manifest = directory / "manifest.json"
    part = directory / "native" / "part-0.onnx"
    before = sha256_of(part)
    model = onnx.load(part)
    model.graph.initializer.append(external("../../secret"))
    onnx.save(model, part)
    manifest.write_text(manifest.read_text().replace(before, sha256_of(part)))

    with pytest.raises(ArtifactError, match=r"part-0\.onnx: its weights"):
        read_manifest(directory)


def test_a_model_behind_links_is_taken_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path)
    (directory / "..data").mkdir()
    for name in ("model.onnx", "manifest.json"):
        (directory / name).rename(directory / "..data" / name)
        (directory / name).symlink_to(f"..data/{name}")

    assert read_manifest(directory).name == "lstm"


@pytest.mark.parametrize("content", [b"\x3a\x7f", b"\x0b", b"\x80" * 20, b"\x3d\x00", b"\x07"])
def test_what_is_no_protobuf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(ArtifactError, match="no ONNX file"):
        check_self_contained(path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        check_self_contained(path)
    except ArtifactError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right
