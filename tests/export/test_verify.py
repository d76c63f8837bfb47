"""Proofs repeated from folders: what is re-run, what is said not to be, and what fails."""

import io
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console

from export.__main__ import main
from export.errors import ExportError
from export.job import Checks
from export.proving.metric import load_metric
from export.proving.recorded import ORIGINAL_FILE
from export.pytorch.export_torch import export_torch
from export.rerun import Outcome, Settings, rerun
from export.smaller.export_half import export_half
from export.smaller.export_int8 import export_int8
from export.spec import ExportSpec, parse_input
from export.verify import verify
from export.versions import find_versions
from serving.manifest import Manifest, ModelFile, Proof, read_manifest, sha256_of
from tests.export.models import Last
from tests.export.support import X, quiet_job, saved_weights
from tests.support.artefacts import write_lstm

CPU = Settings(data=None, device="cpu", metric=None)
LABELLED = "tests.export.judges:labelled"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with an FP32 version, the INT8 and the FP16 version made from it, and another model."""
    repository = tmp_path_factory.mktemp("models")
    fp32 = write_lstm(repository, "m", bidirectional=False, stepwise=True)
    job, _ = quiet_job()
    export_int8(fp32, job, Checks(gate={"rms": 0.1, "cosine": 0.9}), engine="onnxruntime")
    export_half(fp32, job)
    write_lstm(repository, "other", equal_lengths=True)
    return repository


@pytest.fixture
def repository(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "models"))


def _verify(path: Path, settings: Settings = CPU) -> tuple[bool, str]:
    shown = io.StringIO()
    passed = verify(path, settings, Console(file=shown, width=200))
    return passed, " ".join(shown.getvalue().split())


def _outcomes(directory: Path, settings: Settings = CPU) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in rerun(directory, read_manifest(directory), settings)}


def _rewrite(directory: Path, **changes: object) -> None:
    """Change a manifest, and let it vouch for the model file that lies there."""
    path = directory / "model.onnx"
    changes["file"] = ModelFile(sha256=sha256_of(path), bytes=path.stat().st_size)
    manifest = Manifest.model_validate_json((directory / "manifest.json").read_text())
    manifest.model_copy(update=changes).write(directory)


def test_all_versions_below_a_repository_pass_on_the_machine_that_made_them(written: Path) -> None:
    passed, shown = _verify(written)

    assert passed
    assert [f"{path.parent.name}/{path.name}" for path in find_versions(written)] == ["m/1", "m/2", "m/3", "other/1"]
    assert "all checks that could be re-run passed (4 versions)" in shown
    assert f"onnxruntime {onnxruntime.__version__}; device cpu" in shown


def test_int8_is_measured_again_against_its_source(written: Path) -> None:
    outcomes = _outcomes(written / "m" / "2")

    assert list(outcomes) == ["int8", "saturation", "company", "chunks", "latency", "gate"]
    for name, figure in (("int8", "rms_relative"), ("saturation", "pairs"), ("company", "relative"), ("gate", "rms")):
        outcome = outcomes[name]
        assert outcome.recorded is not None
        assert outcome.here is not None
        assert outcome.here.measured[figure] == outcome.recorded.measured[figure]
        assert outcome.here.limit == outcome.recorded.limit


def test_fp16_is_measured_again_against_its_source(written: Path) -> None:
    outcomes = _outcomes(written / "m" / "3")

    assert list(outcomes) == ["fp16_emulated", "fp16_long_emulated", "company", "chunks"]
    assert all(outcome.here == outcome.recorded for outcome in outcomes.values())


def test_rows_of_equal_lengths_are_checked_as_they_are_served(written: Path) -> None:
    outcomes = _outcomes(written / "other" / "1")

    assert list(outcomes) == ["company"]
    assert not outcomes["company"].failed


def test_parity_says_that_it_needs_the_original_s_answers(repository: Path) -> None:
    _rewrite(repository / "m" / "1", proofs=(Proof(name="parity", passed=True, measured={"relative": 1e-7}),))

    passed, shown = _verify(repository / "m" / "1")

    assert passed
    assert "not re-run: the folder has no original.npz" in shown


def test_a_changed_file_fails_and_the_other_versions_are_verified_all_the_same(repository: Path) -> None:
    with (repository / "m" / "2" / "model.onnx").open("ab") as file:
        file.write(b"!")

    passed, shown = _verify(repository / "m")

    assert not passed
    assert "FAILED m/2: checksum:" in shown
    assert "m/3, FP16" in shown
    assert main(["verify", str(repository / "m")]) == 2
    assert main(["verify", str(repository / "m" / "3")]) == 0


def test_full_range_weights_fail_although_the_manifest_vouches_for_them(repository: Path) -> None:
    quantize_dynamic(
        repository / "m" / "1" / "model.onnx",
        repository / "m" / "2" / "model.onnx",
        op_types_to_quantize=["LSTM"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    _rewrite(repository / "m" / "2")

    passed, shown = _verify(repository / "m" / "2")

    assert not passed
    assert "FAILED m/2: saturation: measured" in shown


def test_another_source_fails_the_error_and_the_gate(repository: Path) -> None:
    shutil.rmtree(repository / "m" / "1")
    write_lstm(repository, "m", bidirectional=False, stepwise=True, seed=1)

    outcomes = _outcomes(repository / "m" / "2")

    assert [name for name, outcome in outcomes.items() if outcome.failed] == ["int8", "gate"]


def test_without_the_source_it_is_said_what_cannot_be_measured(repository: Path) -> None:
    shutil.rmtree(repository / "m" / "1")

    passed, shown = _verify(repository / "m")

    assert passed
    assert "the FP32 version it was made from is gone or damaged" in shown
    assert [name for name, outcome in _outcomes(repository / "m" / "2").items() if outcome.here is None] == [
        "int8",
        "latency",
        "gate",
    ]


def test_a_metric_is_repeated_if_it_is_given(repository: Path) -> None:
    metric = load_metric("tests.export.judges:accuracy", lower_is_better=False)
    job, _ = quiet_job()
    job = type(job)(data=LABELLED, force=False, console=job.console)
    export_int8(repository / "m" / "1", job, Checks(metric=metric, gate={"metric": 0.5}), engine="onnxruntime")

    without = _outcomes(repository / "m" / "4")
    with_metric = _outcomes(repository / "m" / "4", Settings(data=LABELLED, device="cpu", metric=metric))

    assert (without["metric"].here, without["gate"].here) == (None, None)
    assert without["metric"].reason == "not re-run: give --metric and --data"
    assert with_metric["metric"].here == with_metric["metric"].recorded
    assert with_metric["gate"].here == with_metric["gate"].recorded
    assert with_metric["int8"].here is not None
    assert with_metric["int8"].here.measured["data"] == "real"


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA")
def test_cuda_is_refused_where_there_is_none_but_int8_stays_on_the_cpu(written: Path) -> None:
    cuda = Settings(data=None, device="cuda", metric=None)

    with pytest.raises(ExportError, match=r"--device cuda: the installed onnxruntime has no CUDA support.*\[gpu\]"):
        _verify(written / "m" / "1", cuda)
    assert _verify(written / "m" / "2", cuda)[0]


@pytest.mark.parametrize("path", ["absent", "."])
def test_a_folder_without_versions_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(ExportError, match="expected models/NAME/VERSION"):
        find_versions(tmp_path / path)


def test_parity_is_proven_again_from_the_original_s_answers(tmp_path: Path) -> None:
    """PyTorch's answers to noise lie in the folder; a file that answers otherwise, and damaged ones, are told."""
    job, _ = quiet_job()
    spec = ExportSpec(
        factory="tests.export.models:Last",
        weights=saved_weights(Last, tmp_path),
        name="last",
        inputs=(parse_input(X),),
    )
    directory = export_torch(spec, tmp_path / "models", job)
    recorded = directory / ORIGINAL_FILE
    outcome = _outcomes(directory)["parity"]

    assert outcome.here is not None
    assert outcome.here.passed
    assert outcome.recorded is not None
    assert 0 < float(outcome.here.measured["relative"]) < 1e-5

    with np.load(recorded) as file:
        arrays = {name: file[name] * (1.001 if "outputs" in name else 1) for name in file.files}
    np.savez(recorded, **arrays)
    assert main(["verify", str(directory)]) == 2

    recorded.write_bytes(recorded.read_bytes()[:-200])
    assert main(["verify", str(directory)]) == 1
