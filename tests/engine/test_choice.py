"""Which engine runs a version, and that the native one serves as the other does."""

from pathlib import Path

import numpy as np
import pytest

from serving.clock import SystemClock
from serving.engine.choice import EngineChoice, EngineName
from serving.engine.sessions import SessionEngine
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import read_manifest
from serving.plan import NATIVE_DIRECTORY
from serving.tensors import Layout, Rows, whole_parts
from tests.support.artefacts import FEATURES, write_lstm
from tests.support.native import needs_library, unbuilt, write_native


def opened(directory: Path, engine: EngineName = "auto") -> SessionEngine:
    return EngineChoice(engine, "cpu").open(read_manifest(directory), directory, threads=1)


@needs_library
@pytest.mark.parametrize(
    ("asked", "preferred", "taken"),
    [
        ("auto", "native", "native"),
        ("auto", "onnxruntime", "onnxruntime"),
        ("native", "native", "native"),
        ("native", "onnxruntime", "native"),
        ("onnxruntime", "native", "onnxruntime"),
    ],
)
def test_the_operator_decides_and_then_the_version(
    tmp_path: Path, asked: EngineName, preferred: EngineName, taken: str
) -> None:
    engine = opened(write_native(tmp_path, prefers=preferred), asked)

    assert (engine.name, engine.padding_free) == (taken, taken == "native")


@needs_library
def test_a_version_without_a_native_plan_is_run_by_onnxruntime_whatever_was_asked_for(tmp_path: Path) -> None:
    assert opened(write_lstm(tmp_path), "native").name == "onnxruntime"


def test_without_the_library_one_warning_says_what_it_takes_and_the_portable_form_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = EngineChoice("auto", "cpu")
    plain = write_lstm(tmp_path)
    with unbuilt():
        choice.open(read_manifest(plain), plain, threads=1)
        assert not caplog.records

        for number in (1, 2):
            directory = write_native(tmp_path, version=number)
            engine = choice.open(read_manifest(directory), directory, threads=1)
            assert engine.name == "onnxruntime"
            assert engine.warm_up([(1, 2)], SystemClock())

    (warning,) = caplog.messages
    assert "compiler" in warning
    assert "model.onnx" in warning


def test_asking_for_the_native_engine_without_its_library_says_what_it_takes() -> None:
    with unbuilt(), pytest.raises(EngineUnavailable, match="compiler"):
        EngineChoice("native", "cpu")


@needs_library
@pytest.mark.parametrize("stepwise", [False, True])
def test_company_changes_no_bit_of_an_answer(tmp_path: Path, *, stepwise: bool) -> None:
    """Rows of all lengths, one with values a thousand times larger, answered together and each alone."""
    directory = write_native(tmp_path, stepwise=stepwise)
    layout, engine = Layout(read_manifest(directory)), opened(directory)
    rng = np.random.default_rng(1)
    requests = [
        Rows(
            inputs={"x": (scale * rng.normal(size=(1, steps, FEATURES))).astype(np.float32)},
            lengths=np.array([steps]),
            time=steps,
        )
        for scale, steps in ((1, 5), (1000, 1), (1, 30), (1000, 12), (1, 12))
    ]

    together = [layout.answer(request) for request in requests]
    parts = [part for answer in together for part in whole_parts(answer)]
    layout.scatter(engine.run(layout.pack(parts)), parts)

    for request, answer in zip(requests, together, strict=True):
        alone = layout.answer(request)
        layout.scatter(engine.run(layout.pack(whole_parts(alone))), whole_parts(alone))
        got = layout.outputs_of(answer)
        assert got.keys() == layout.produced.keys()
        for name, expected in layout.outputs_of(alone).items():
            np.testing.assert_array_equal(got[name], expected)


@needs_library
def test_a_native_version_warms_up(tmp_path: Path) -> None:
    engine = opened(write_native(tmp_path, stepwise=True))

    measured = engine.warm_up([(1, 1), (3, 8)], SystemClock())

    assert [shape[:2] for shape in measured] == [(1, 1), (3, 8)]
    assert (engine.device, engine.threads) == ("cpu", 1)


@needs_library
def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    directory = write_native(tmp_path)
    manifest = read_manifest(directory)
    (directory / NATIVE_DIRECTORY / "weights.bin").write_bytes(b"no weights")

    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        EngineChoice("auto", "cpu").open(manifest, directory, threads=1)
