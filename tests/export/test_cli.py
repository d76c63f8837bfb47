"""The command line from end to end, on a model and data that lie on disk."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.__main__ import main
from serving.errors import ArtifactError
from serving.manifest import read_manifest
from tests.export import family_models
from tests.support.artefacts import write_lstm

MODEL = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.lstm = nn.LSTM(4, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 3)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])

def interrupted():
    raise KeyboardInterrupt
"""
PNG = b"\x89PNG"
ARGUMENTS = ["torch", "tagger_on_disk:Tagger", "--weights", "w.pt", "--input", "x:float32[batch,time,4]", "--name", "t"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the model's module, its weights and 40 sequences."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tagger_on_disk.py").write_text(MODEL)
    torch.manual_seed(0)
    lstm, fc = torch.nn.LSTM(4, 16, batch_first=True), torch.nn.Linear(16, 3)
    state = {f"lstm.{key}": value for key, value in lstm.state_dict().items()}
    torch.save(state | {f"fc.{key}": value for key, value in fc.state_dict().items()}, "w.pt")
    rng = np.random.default_rng(0)
    np.savez("data.npz", x=rng.uniform(-2, 2, (40, 20, 4)), lengths=rng.integers(1, 21, 40))
    return tmp_path


def test_export_and_quantize_write_two_versions_that_read_back(folder: Path) -> None:
    assert main([*ARGUMENTS, "--data", "data.npz", "--output-names", "scores"]) == 0
    assert main(["quantize", "models/t/1", "--data", "data.npz", "--engine", "onnxruntime"]) == 0

    fp32, int8 = (read_manifest(folder / "models" / "t" / version) for version in "12")
    assert fp32.stepwise
    assert [tensor.name for tensor in fp32.outputs] == ["scores"]
    assert fp32.source["factory"] == "tagger_on_disk:Tagger"
    assert fp32.source["weights"] == "w.pt"
    assert int8.int8 is not None
    assert int8.int8.source_version == 1
    assert int8.int8.quantized_nodes == ("lstm.layer0",)
    assert [proof.name for proof in int8.proofs] == ["int8", "saturation", "company", "chunks", "latency"]
    assert (int8.inputs, int8.outputs, int8.state, int8.source) == (fp32.inputs, fp32.outputs, fp32.state, fp32.source)
    low, high = int8.input_range["x"]
    assert -2 <= low < -1.9 < 1.9 < high <= 2
    assert sorted(path.name for path in (folder / "models/t/2").iterdir()) == [
        "manifest.json",
        "model.onnx",
        "report.md",
        "report.png",
    ]
    report = (folder / "models/t/2/report.md").read_text()
    assert "INT8 pays" in report or "INT8 does not pay" in report
    assert all(f"> **Warning:** {warning}" in report for warning in int8.warnings)
    assert not any("noise" in warning for warning in int8.warnings)
    assert "tagger_on_disk.py:12" in (folder / "models/t/1/report.md").read_text()  # reads the last step by lengths
    assert (folder / "models/t/1/report.png").read_bytes().startswith(PNG)

    assert main(["quantize", "models/t/2"]) == 1  # it is INT8 already
    (folder / "models/t/1/model.onnx").write_bytes(b"other")
    assert main(["quantize", "models/t/1"]) == 1
    with pytest.raises(ArtifactError, match="changed or damaged"):
        read_manifest(folder / "models/t/1")
    assert sorted(path.name for path in (folder / "models/t").iterdir()) == ["1", "2"]


def test_ctrl_c_writes_nothing(folder: Path) -> None:
    arguments = [argument.replace("Tagger", "interrupted") for argument in ARGUMENTS]

    assert main(arguments) == 130
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*ARGUMENTS[:3], "absent.pt", *ARGUMENTS[4:]], "absent.pt: cannot be read"),
        ([*ARGUMENTS[:-2], "--name", "a/b"], "'name'"),
        (["torch", "--weights", "w.pt"], "'factory'"),
        (["quantize", "models/absent/1"], "manifest.json: cannot be read"),
        (["half", "models/absent/1"], "manifest.json: cannot be read"),
        (["verify", "models/absent"], "models/absent: no such folder; expected models/NAME/VERSION"),
        (["inspect", "."], "holds no version"),
        (["quantize", "models/absent/1", "--metric", "accuracy"], "'accuracy' is not of the form MODULE:FUNCTION"),
        (["onnx", "absent.onnx", "--name", "a"], "absent.onnx"),
    ],
)
def test_a_user_s_mistake_is_one_paragraph_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "Traceback" not in shown
    assert not (folder / "models").exists()


def test_bad_data_is_refused_before_anything_is_written(folder: Path) -> None:
    np.savez("data.npz", x=np.ones((4, 5, 9)))

    assert main([*ARGUMENTS, "--data", "data.npz"]) == 1
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["quantize", "models/t/1", "--gate", "speed=1"],
            "--gate 'speed=1': 'speed' is unknown; expected FIGURE=NUMBER",
        ),
        (["half", "models/t/1", "--gate", "rms=low"], "'low' is not a number"),
    ],
)
def test_a_gate_of_another_form_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_data_and_metric_come_from_functions_and_a_broken_gate_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = str(write_lstm(tmp_path / "models", bidirectional=False, stepwise=True))
    judged = [version, "--data", "tests.export.judges:labelled", "--metric", "tests.export.judges:accuracy"]

    assert main(["quantize", *judged, "--gate", "rms=0.00001"]) == 2
    assert "gate measured" in " ".join(capsys.readouterr().err.split())
    assert main(["quantize", *judged, "--gate", "rms=0.1,metric=0.5", "--metric-lower-is-better"]) == 0
    assert [path.name for path in (tmp_path / "models/lstm").iterdir() if path.name != "1"] == ["2"]
    proofs = {proof.name: proof.measured for proof in read_manifest(tmp_path / "models/lstm/2").proofs}
    assert proofs["metric"]["function"] == "tests.export.judges:accuracy"
    assert proofs["metric"]["better"] == "lower"
    assert proofs["int8"]["data"] == "real"


def test_labels_without_a_metric_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = str(write_lstm(tmp_path / "models"))

    assert main(["quantize", version, "--data", "tests.export.judges:labelled"]) == 1
    assert "are for --metric" in " ".join(capsys.readouterr().err.split())


def test_tokens_beyond_the_vocabulary_are_refused_before_anything_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    torch.save(family_models.Tagger().state_dict(), "words.pt")
    np.savez("data.npz", tokens=np.array([[1, family_models.WORDS]]))
    given = ["tests.export.family_models:Tagger", "--weights", "words.pt", "--input", "tokens:int64[batch,time]"]

    assert main(["torch", *given, "--name", "t", "--data", "data.npz"]) == 1
    assert f"holds values from 1 to {family_models.WORDS}" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "models").exists()
