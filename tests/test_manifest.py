"""The artefact's description: what is written reads back, and nothing doubtful is taken."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.errors import ArtifactError
from serving.manifest import Manifest, Tensor, read_manifest
from serving.policy import Policy, read_policy
from tests.support.artefacts import BLANK, SYMBOLS, write_ctc, write_lstm
from tests.support.native import write_native


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_lstm(tmp_path, bidirectional=False, stepwise=True)


def rewrite(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_manifest_reads_back_as_it_was_written(directory: Path) -> None:
    manifest = read_manifest(directory)
    before = (directory / "manifest.json").read_bytes()
    manifest.write(directory)

    assert (directory / "manifest.json").read_bytes() == before
    assert read_manifest(directory) == manifest


def test_a_changed_model_file_is_refused_with_both_checksums(directory: Path) -> None:
    model = directory / "model.onnx"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)

    with pytest.raises(ArtifactError, match=r"sha256 is .* the manifest says .*changed or damaged"):
        read_manifest(directory)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"version": 7}, "describes lstm/7, but lies in lstm/1"),
        ({"stepwise": False}, "a stepwise model has a state"),
        ({"precision": "int8"}, "precision int8 comes with the section"),
        ({"lengths_input": None}, "must be marked equal_lengths"),
        ({"file": {"name": "../../secret", "sha256": "0" * 64, "bytes": 1}}, "file.name"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", 3]}]}, "no input follows time"),
        ({"outputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", 3]}]}, "tensor names must differ"),
        ({"lengths_input": "x"}, "tensor names must differ"),
        ({"input_range": {"x": [float("-inf"), 1.0]}}, "input_range.x"),
        ({"input_range": {"x": [0.0, float("nan")]}}, "input_range.x"),
        ({"state": {"input": "x", "output": "next_state", "size": 8}}, "tensor names must differ"),
    ],
)
def test_an_inconsistent_manifest_is_refused_and_the_field_is_named(
    directory: Path, changes: dict[str, Any], text: str
) -> None:
    rewrite(directory, **changes)

    with pytest.raises(ArtifactError, match=text):
        read_manifest(directory)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()

    with pytest.raises(ArtifactError, match=f"{name}: cannot be read"):
        read_manifest(directory)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"format": 1}'])
def test_a_damaged_manifest_is_refused(directory: Path, content: bytes) -> None:
    (directory / "manifest.json").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(directory)


@pytest.mark.parametrize("shape", [(3, "batch"), ("batch", 3, "time"), ("batch", "batch"), ("time", 3)])
def test_axes_have_their_places(shape: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError, match="axis"):
        Tensor(name="x", datatype="FP32", shape=shape)


def test_only_integers_index_a_table() -> None:
    assert Tensor(name="tokens", datatype="INT64", shape=("batch", "time"), vocabulary=5).vocabulary == 5

    with pytest.raises(ValidationError, match="FP32 has no vocabulary"):
        Tensor(name="x", datatype="FP32", shape=("batch", "time"), vocabulary=5)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Tensor(name="tokens", datatype="INT64", shape=("batch", "time"), vocabulary=0)


def test_decodings_read_back_with_every_symbol_as_it_was_written(tmp_path: Path) -> None:
    directory = write_ctc(tmp_path, beam_width=3)
    manifest = read_manifest(directory)

    assert [(d.name, d.source, d.method, d.blank) for d in manifest.decodings] == [
        ("text", "log_probs", "greedy", BLANK),
        ("text_beam", "log_probs", "beam", BLANK),
    ]
    assert all(decoding.symbols == SYMBOLS for decoding in manifest.decodings)
    assert manifest.decodings[1].beam_width == 3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"source": "nothing"}, "decoding 'text' needs an output 'nothing' of FP32"),
        ({"source": "x"}, "needs an output 'x'"),
        ({"symbols": ["-", "a"]}, r"'log_probs' of FP32 \['batch', 'time', 2\], one class per symbol"),
        ({"symbols": ["-"]}, "symbols"),
        ({"blank": 5}, "blank 5 is none of its symbols"),
        ({"blank": -1}, "blank"),
        ({"name": "log_probs"}, "'log_probs' has the name of another tensor"),
        ({"name": "lengths"}, "'lengths' has the name of another tensor"),
        ({"name": "text_beam"}, "'text_beam' has the name of another tensor"),
        ({"method": "magic"}, "method"),
        ({"beam_width": 0}, "beam_width"),
        ({"beam_width": 1025}, "beam_width"),
    ],
)
def test_a_decoding_that_does_not_fit_its_output_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    directory = write_ctc(tmp_path)
    greedy, beam = json.loads((directory / "manifest.json").read_text())["decodings"]
    rewrite(directory, decodings=[greedy | changes, beam])

    with pytest.raises(ArtifactError, match=text):
        read_manifest(directory)


def test_a_native_plan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    directory = write_native(tmp_path, stepwise=True)
    manifest = read_manifest(directory)
    before = (directory / "manifest.json").read_bytes()
    manifest.write(directory)

    assert manifest.native is not None
    assert [part.kind for part in manifest.native.parts] == ["onnx", "view", "recurrent", *["view"] * 4, "onnx"]
    assert (directory / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"native": None}, "int8.engine is 'native', so the section 'native' must say"),
        ({"int8": None, "precision": "fp32"}, "the section 'native' comes with precision int8 only"),
        ({"lengths_input": None, "equal_lengths": True}, r"reads \['lengths'\], which are no inputs"),
        ({"outputs": [{"name": "z", "datatype": "FP32", "shape": ["batch"]}]}, r"does not make the outputs \['z'\]"),
    ],
)
def test_a_native_plan_that_does_not_fit_its_manifest_is_refused(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    directory = write_native(tmp_path)
    rewrite(directory, **changes)

    with pytest.raises(ArtifactError, match=text):
        read_manifest(directory)


@pytest.mark.parametrize("name", ["weights.bin", "part-0.onnx", "part-1.onnx"])
def test_a_changed_or_missing_file_of_a_native_plan_is_named(tmp_path: Path, name: str) -> None:
    directory = write_native(tmp_path, stepwise=True)
    path = directory / "native" / name
    path.write_bytes(path.read_bytes() + b"!")

    with pytest.raises(ArtifactError, match=f"{name}: sha256 is .* changed or damaged"):
        read_manifest(directory)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name}: cannot be read"):
        read_manifest(directory)


def test_a_model_without_model_yaml_has_the_defaults(tmp_path: Path) -> None:
    assert read_policy(tmp_path) == Policy()
    (tmp_path / "model.yaml").write_text("# nothing but a comment\n")
    assert read_policy(tmp_path) == Policy()


def test_model_yaml_sets_limits(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("max_batch_rows: 8\nout_of_range: refuse\n")

    assert read_policy(tmp_path) == Policy(max_batch_rows=8, out_of_range="refuse")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("max_rows: 3", "max_rows: Extra inputs are not permitted"),
        ("max_steps: 0", "max_steps: .*greater than or equal to 1"),
        ("max_queue_rows: 3", "it must hold one batch"),
        ("- 1", "valid dictionary"),
        ("a: [", "not valid YAML"),
        ("tick_ms: 9\ntick_ms: 7", "'tick_ms' is there twice"),
    ],
)
def test_a_wrong_model_yaml_is_refused_and_the_key_is_named(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "model.yaml").write_text(content)

    with pytest.raises(ArtifactError, match=text):
        read_policy(tmp_path)


def test_the_schema_has_a_description_for_every_operator_setting() -> None:
    properties = Policy.model_json_schema()["properties"]

    assert all("description" in setting for setting in properties.values())
    assert Manifest.model_json_schema()["required"]
