"""The ONNX Runtime engine: what it loads, what it refuses, and that company does not matter to it."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from serving.clock import NANOSECONDS_PER_SECOND, SystemClock
from serving.engine.onnx import OnnxEngine
from serving.engine.runtime import load_onnxruntime
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import read_manifest
from serving.tensors import Layout, Rows, whole_parts
from tests.support.artefacts import FEATURES, write_lstm


class TickingClock:
    """A clock that tells one time after the other."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = iter(seconds)

    def now_ns(self) -> int:
        return int(next(self._seconds) * NANOSECONDS_PER_SECOND)


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

    layout = Layout(manifest)
    together = [layout.answer(request) for request in requests]
    parts = [part for answer in together for part in whole_parts(answer)]
    layout.scatter(engine.run(layout.pack(parts)), parts)

    for request, answer in zip(requests, together, strict=True):
        alone = layout.answer(request)
        layout.scatter(engine.run(layout.pack(whole_parts(alone))), whole_parts(alone))
        got = layout.outputs_of(answer)
        assert got.keys() == layout.produced.keys()
        for name, expected in layout.outputs_of(alone).items():
            np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-6)


def test_warm_up_tells_what_each_shape_took_and_ends_with_one_that_takes_long(tmp_path: Path) -> None:
    """Each shape runs twice and the second run counts; half a second is long."""
    engine = engine_of(write_lstm(tmp_path))
    clock = TickingClock((0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 3.0))

    measured = engine.warm_up([(1, 1), (2, 8), (4, 64)], clock)

    assert measured == [(1, 1, pytest.approx(0.3)), (2, 8, pytest.approx(1.0))]


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
        engine.warm_up([(2, 64)], SystemClock())


def test_a_half_precision_version_runs_on_the_cpu_in_fp32_and_the_log_says_that_it_gains_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its weights are rounded to 11 bits, so its answers are as close to FP32's as that allows."""
    half = write_lstm(tmp_path, "half", half=True)
    full = write_lstm(tmp_path, "full")
    x = np.random.default_rng(1).normal(size=(2, 7, FEATURES)).astype(np.float32)
    rows = Rows(inputs={"x": x}, lengths=np.array([7, 3]), time=7)
    answers = []
    for version in (half, full):
        layout = Layout(read_manifest(version))
        answers.append(engine_of(version).run(layout.pack(whole_parts(layout.answer(rows)))))

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
