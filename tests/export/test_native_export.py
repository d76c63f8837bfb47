"""`lstm-export quantize --engine`: which forms are made, proven, preferred and served."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from export.__main__ import main
from export.data import noise, pool
from export.errors import ExportError, ProofFailed
from export.job import Checks
from export.proving.latency import Latency
from export.proving.metric import load_metric
from export.rerun import Settings, rerun
from export.runtime import Runtime
from export.smaller.export_int8 import export_int8, load_fp32
from export.smaller.int8_forms import EngineName, faster_form, make_forms, open_forms
from export.smaller.int8_judging import Judged, Subject, judge
from export.smaller.native_cut import cut
from export.verify import verify
from serving.engine.choice import EngineChoice
from serving.manifest import Manifest, read_manifest
from serving.plan import NATIVE_DIRECTORY
from serving.tensors import Layout, Rows, whole_parts
from tests.export.family_models import CausalWeather
from tests.export.support import exported, quiet_job, rows_of
from tests.export.test_quantize import _version
from tests.support.artefacts import FEATURES, write_lstm
from tests.support.native import needs_library, unbuilt

CPU = Settings(data=None, device="cpu", metric=None)


def proofs_of(manifest: Manifest) -> dict[str, dict[str, float | int | str]]:
    return {proof.name: proof.measured for proof in manifest.proofs}


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lstm(tmp_path_factory.mktemp("models"), "m", bidirectional=False, stepwise=True)


@pytest.fixture(scope="module")
def native(fp32: Path) -> Path:
    """A stepwise version that prefers its native form, judged by a metric and a gate."""
    job, _ = quiet_job()
    metric = load_metric("tests.export.judges:accuracy", lower_is_better=False)
    labelled = replace(job, data="tests.export.judges:labelled")
    return export_int8(fp32, labelled, Checks(metric=metric, gate={"rms": 0.1, "company": 0.0}), engine="native")


@needs_library
def test_both_forms_are_written_and_proven_and_the_report_compares_them(native: Path) -> None:
    manifest, report = read_manifest(native), (native / "report.md").read_text()
    proofs = proofs_of(manifest)

    assert list(proofs) == [
        "int8", "saturation", "company", "chunks", "cut", "native", "native_company", "native_chunks", "latency",
        "metric", "gate",
    ]  # fmt: skip
    assert manifest.int8 is not None
    assert manifest.native is not None
    assert (manifest.int8.engine, manifest.int8.quantized_nodes) == ("native", ("lstm",))
    assert not any(part.kind == "onnx" for part in manifest.native.parts)  # the state is split and joined by numpy
    assert proofs["native_company"]["relative"] == proofs["native_chunks"]["relative"] == 0
    assert proofs["native_company"]["batches"] == 1000
    assert float(proofs["company"]["relative"]) > 0.001
    assert proofs["gate"] == {"rms": proofs["native"]["rms_relative"], "company": 0}
    assert {"fp32", "int8", "native"} <= proofs["metric"].keys()
    assert all(f"{case}_native_seconds" in proofs["latency"] for case in ("batch_1", "batch_8", "batch_32", "mixed"))
    files = {path.name: path.stat().st_size for path in (native / NATIVE_DIRECTORY).iterdir()}
    assert proofs["native"]["native_bytes"] == sum(files.values())
    assert "Preferred is INT8 by the native engine." in report
    assert f"| INT8 by the native engine | {sum(files.values()):,} |" in report
    assert f"{sum(files.values()):,} bytes of the native form beside it" in report


@needs_library
def test_the_server_runs_the_form_that_was_proven(native: Path) -> None:
    manifest = read_manifest(native)
    engine, layout = EngineChoice("auto", "cpu").open(manifest, native, threads=1), Layout(manifest)
    fp32 = EngineChoice("auto", "cpu").open(read_manifest(native.parent / "1"), native.parent / "1", threads=1)
    x = np.random.default_rng(0).normal(size=(3, 9, FEATURES)).astype(np.float32)
    rows = Rows(inputs={"x": x}, lengths=np.array([9, 2, 5]), time=9)

    answers = []
    for one in (engine, fp32):
        parts = whole_parts(layout.answer(rows))
        answers.append(one.run(layout.pack(parts)))

    assert engine.name == "native"
    for name, expected in answers[1].items():
        np.testing.assert_allclose(answers[0][name], expected, atol=0.03)


@needs_library
def test_proofs_of_the_native_form_are_repeated_from_the_folder(native: Path) -> None:
    shown = io.StringIO()

    assert verify(native, CPU, Console(file=shown, width=200))
    outcomes = {outcome.name: outcome for outcome in rerun(native, read_manifest(native), CPU)}

    here = {name for name, outcome in outcomes.items() if outcome.here is not None}
    assert here == {"int8", "saturation", "company", "chunks", "native", "native_company", "native_chunks", "latency",
                    "gate"}  # fmt: skip
    assert outcomes["native_company"].here is not None
    assert outcomes["native_company"].here.measured["relative"] == 0


@needs_library
def test_a_damaged_native_file_is_a_failed_check(native: Path) -> None:
    weights = native / NATIVE_DIRECTORY / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        assert main(["verify", str(native)]) == 2
    finally:
        weights.write_bytes(content)
    assert main(["verify", str(native)]) == 0


@needs_library
def test_a_model_of_gru_gets_an_int8_form_and_its_portable_file_stays_float(tmp_path: Path) -> None:
    directory = _version(tmp_path, ["GRU", "RNN"])
    job, _ = quiet_job()

    written = export_int8(directory, job)

    manifest = read_manifest(written)
    assert manifest.int8 is not None
    assert (manifest.int8.engine, manifest.int8.quantized_nodes) == ("native", ("gru0", "rnn1"))
    assert (written / "model.onnx").read_bytes() == (directory / "model.onnx").read_bytes()
    assert any("`model.onnx`, which is served where the native engine was not built, is FP32" in warning
               for warning in manifest.warnings)  # fmt: skip
    assert list(proofs_of(manifest)) == ["cut", "native", "native_company", "latency"]
    assert main(["verify", str(tmp_path)]) == 0
    assert main(["inspect", str(tmp_path)]) == 0


@needs_library
@pytest.mark.parametrize(
    ("engine", "message"),
    [("auto", "nothing can be quantized"), ("native", "--engine native: .*no recurrent layer")],
)
def test_a_model_that_no_engine_can_quantize_is_refused(engine: EngineName, message: str) -> None:
    runtime, _ = exported(CausalWeather, ["x:float32[batch,time,2,4,5]"])

    with pytest.raises(ExportError, match=message):
        make_forms(runtime, rows_of(runtime, (3, 1)), engine, equal_lengths=False)


def test_without_the_library_auto_makes_the_portable_form_and_says_what_it_would_take(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path, "m")
    job, _ = quiet_job()

    with unbuilt():
        manifest = read_manifest(export_int8(directory, job))

    assert manifest.native is None
    assert manifest.int8 is not None
    assert manifest.int8.engine == "onnxruntime"
    assert any(note.startswith("It has no native form: ") and "compiler" in note for note in manifest.notes)
    with unbuilt(), pytest.raises(ExportError, match=r"--engine native: .*compiler"):
        export_int8(directory, job, engine="native")


@needs_library
def test_without_the_library_verify_says_what_it_cannot_repeat(native: Path) -> None:
    with unbuilt():
        outcomes = {outcome.name: outcome for outcome in rerun(native, read_manifest(native), CPU)}

    for name in ("native", "native_company", "native_chunks"):
        assert outcomes[name].here is None
        assert outcomes[name].reason == "not re-run: the native engine was not built here"


def judged_with_other_weights(directory: Path, engine: EngineName) -> Judged:
    """Judge a version whose native form has the weights of a model of another seed."""
    source, job = read_manifest(directory), quiet_job()[0]
    model = load_fp32(source, directory)
    other = write_lstm(directory.parents[1] / "other", "m", bidirectional=False, stepwise=True, seed=1)
    data, fp32 = noise(model), Runtime(model)
    rows = pool(data, source.inputs)
    forms = make_forms(fp32, rows, "auto", equal_lengths=False)
    forms = replace(forms, native=cut(load_fp32(read_manifest(other), other)))
    runtimes = {"fp32": fp32, **open_forms(forms, model)}
    subject = Subject(source=source, data=data, rows=rows, forms=forms, runtimes=runtimes)
    return judge(subject, engine, Checks(), job)


@needs_library
def test_auto_drops_a_native_form_that_fails_a_proof_and_says_so(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path / "models", "m", bidirectional=False, stepwise=True)

    judged = judged_with_other_weights(directory, "auto")

    assert judged.preferred == "int8"
    assert judged.subject.forms.native is None
    assert "a proof of it failed: native measured" in judged.subject.forms.note
    assert all(proof.passed for proof in judged.proofs)


@needs_library
def test_a_native_form_that_was_asked_for_and_fails_a_proof_fails_the_export(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path / "models", "m", bidirectional=False, stepwise=True)

    judged = judged_with_other_weights(directory, "native")

    with pytest.raises(ProofFailed, match="native measured"):
        quiet_job()[0].forced(judged.proofs)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([{"int8": 2.0, "native": 1.0}, {"int8": 1.0, "native": 1.5}], "native"),
        ([{"int8": 2.0, "native": 1.0}, {"int8": 1.0, "native": 2.5}], "int8"),
        ([{"int8": 2.0}], "int8"),
        ([{"native": 9.0}], "native"),
    ],
)
def test_the_form_that_is_faster_over_all_cases_is_preferred(times: list[dict[str, float]], expected: str) -> None:
    latencies = [Latency(rows=1, steps=4, mixed=False, seconds={"fp32": 1.0, **seconds}) for seconds in times]

    assert faster_form(latencies) == expected
