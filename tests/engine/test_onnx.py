"""The ONNX Runtime engine: what it loads, what it refuses, and that company does not matter to it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from serving.engine.onnx import OnnxEngine, load_onnxruntime
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import read_manifest
from serving.tensors import Rows, pack, scatter
from tests.support.artefacts import FEATURES, write_lstm


def engine_of(directory: Path) -> OnnxEngine:
    return OnnxEngine(read_manifest(directory), directory / "model.onnx", device="cpu", threads=1)


@pytest.mark.parametrize("stepwise", [False, True])
def test_rows_of_different_lengths_get_the_answers_they_get_alone(tmp_path: Path, *, stepwise: bool) -> None:
    directory = write_lstm(tmp_path, bidirectional=not stepwise, stepwise=stepwise)
    manifest, engine = read_manifest(directory), engine_of(directory)
    rng = np.random.default_rng(1)
    requests = [
        Rows(inputs={"x": rng.normal(size=(1, n, FEATURES)).astype(np.float32)}, lengths=np.array([n]), time=n)
        for n in (5, 1, 30, 12)
    ]

    together = scatter(manifest, engine.run(pack(manifest, requests)), requests)

    for request, answer in zip(requests, together, strict=True):
        (alone,) = scatter(manifest, engine.run(pack(manifest, [request])), [request])
        for name in ("steps", "last"):
            np.testing.assert_allclose(answer[name], alone[name], rtol=1e-5, atol=1e-6)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path)
    (directory / "model.onnx").write_bytes(b"not a model")
    manifest = read_manifest(write_lstm(tmp_path, "other"))

    with pytest.raises(ArtifactError, match="onnxruntime cannot load it"):
        OnnxEngine(manifest, directory / "model.onnx", device="cpu", threads=1)


def test_a_graph_with_other_inputs_than_its_manifest_is_refused(tmp_path: Path) -> None:
    manifest = read_manifest(write_lstm(tmp_path, bidirectional=False, stepwise=True))
    other = write_lstm(tmp_path, "other", bidirectional=False)

    with pytest.raises(ArtifactError, match=r"inputs are \['lengths', 'x'\], the manifest says .*'state'"):
        OnnxEngine(manifest, other / "model.onnx", device="cpu", threads=1)


def test_warm_up_refuses_a_model_that_answers_in_other_shapes_than_its_manifest(tmp_path: Path) -> None:
    """An output declared to follow time that has one value per row would be cut wrongly for every caller."""
    directory = write_lstm(tmp_path)
    manifest = read_manifest(directory)
    steps, last = manifest.outputs
    wrong = manifest.model_copy(update={"outputs": (steps, last.model_copy(update={"shape": ("batch", "time")}))})
    engine = OnnxEngine(wrong, directory / "model.onnx", device="cpu", threads=1)

    with pytest.raises(ArtifactError, match="warm-up with 2 rows of 64 steps failed"):
        engine.warm_up([(2, 64)])


def test_a_half_precision_version_runs_on_the_cpu_in_fp32_and_the_log_says_that_it_gains_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its weights are rounded to 11 bits, so its answers are as close to FP32's as that allows."""
    half = write_lstm(tmp_path, "half", half=True)
    full = write_lstm(tmp_path, "full")
    x = np.random.default_rng(1).normal(size=(2, 7, FEATURES)).astype(np.float32)
    rows = Rows(inputs={"x": x}, lengths=np.array([7, 3]), time=7)
    answers = [engine_of(version).run(pack(read_manifest(version), [rows])) for version in (half, full)]

    assert "computes half precision in FP32 on the CPU" in caplog.text
    assert str(full) not in caplog.text
    for name in ("steps", "last"):
        assert answers[0][name].dtype == np.float32
        np.testing.assert_allclose(answers[0][name], answers[1][name], rtol=0, atol=2e-3)
        assert (answers[0][name] != answers[1][name]).any()


def test_asking_for_cuda_without_it_says_what_to_install(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    directory = write_lstm(tmp_path)

    with pytest.raises(EngineUnavailable, match=r"lstm-serving\[gpu\]"):
        OnnxEngine(read_manifest(directory), directory / "model.onnx", device="cuda", threads=1)


def test_without_any_onnxruntime_both_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # Python's own way to make an import fail

    with pytest.raises(EngineUnavailable, match=r"lstm-serving\[cpu\].*lstm-serving\[gpu\]"):
        load_onnxruntime()
