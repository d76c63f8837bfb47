"""The recipes from end to end, two epochs long: what they write, print and refuse."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from training import digits, forecast, models, speaker
from training.files import write_json
from training.recipe import main

RECIPES = {recipe.RECIPE.name: recipe.RECIPE for recipe in (speaker, forecast, digits)}
INPUT_SHAPES = {"speaker": (216, 26, 12), "forecast": (256, 60, 6), "digits": (256, 8, 8)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every recipe for two epochs into one folder."""
    folder = tmp_path_factory.mktemp("recipes") / "made" / "on the way"
    for recipe in RECIPES.values():
        assert main(recipe, ["--output", str(folder), "--epochs", "2"]) == 0
    return folder


def record_of(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return record


def test_each_recipe_writes_four_files_and_leaves_nothing_else(written: Path) -> None:
    endings = (".json", ".safetensors", "-calibration.npz", "-test.npz")

    assert {path.name for path in written.iterdir()} == {name + ending for name in RECIPES for ending in endings}


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_fit_the_factory_and_repeat_the_predictions(written: Path, name: str) -> None:
    model = getattr(models, name)()
    model.load_state_dict(safetensors.torch.load_file(written / f"{name}.safetensors"))
    model.eval()
    with np.load(written / f"{name}-test.npz", allow_pickle=False) as file:
        rows = dict(file)

    for row in (0, len(rows["x"]) // 2, len(rows["x"]) - 1):
        lengths = rows["lengths"][row : row + 1]
        x = torch.from_numpy(rows["x"][row : row + 1, : lengths[0]])
        with torch.no_grad():
            output = model(x) if name == "digits" else model(x, torch.from_numpy(lengths))
        np.testing.assert_allclose(output.numpy()[0], rows["prediction"][row], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_calibration_rows_are_named_as_forward_takes_them(written: Path, name: str) -> None:
    with np.load(written / f"{name}-calibration.npz", allow_pickle=False) as file:
        rows = dict(file)

    assert set(rows) == {"x", "lengths"}
    assert (rows["x"].shape, rows["x"].dtype) == (INPUT_SHAPES[name], np.float32)
    assert (rows["lengths"].shape, rows["lengths"].dtype) == (INPUT_SHAPES[name][:1], np.int64)
    train_rows = {row.tobytes() for row in RECIPES[name].data().train.x}
    assert {row.tobytes() for row in rows["x"]} <= train_rows


@pytest.mark.parametrize("name", RECIPES)
def test_the_record_says_what_was_done(written: Path, name: str) -> None:
    record = record_of(written, name)

    assert (record["seed"], record["epochs_run"], record["factory"]) == (0, 2, f"training.models:{name}")
    assert record["best_epoch"] in {1, 2}
    assert [epoch["number"] for epoch in record["history"]] == [1, 2]
    assert record["versions"]["torch"] == torch.__version__
    with np.load(written / f"{name}-test.npz", allow_pickle=False) as file:
        assert record["sizes"]["test_rows"] == len(file["x"])
        if name != "forecast":
            accuracy = (file["prediction"].argmax(axis=1) == file["target"]).mean()
            assert record["metrics"]["test_accuracy"] == accuracy


def test_the_forecast_is_compared_with_both_baselines_on_the_same_rows(written: Path) -> None:
    metrics = record_of(written, "forecast")["metrics"]
    errors = metrics["mean_absolute_error_celsius"]

    assert set(errors) == {"LSTM", "persistence", "seasonal-naive"}
    assert metrics["best"] == min(errors, key=lambda name: errors[name]["overall"])
    with np.load(written / "forecast-test.npz", allow_pickle=False) as file:
        last_day = file["x"][:, -1:, :2]
        assert errors["LSTM"]["overall"] == pytest.approx(np.abs(file["prediction"] - file["target"]).mean(), rel=1e-5)
        assert errors["persistence"]["overall"] == pytest.approx(np.abs(last_day - file["target"]).mean(), rel=1e-5)


def test_the_module_runs_as_a_program_and_repeats_itself(written: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.digits", "--output", str(tmp_path), "--epochs", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "Test accuracy" in done.stdout
    first, second = record_of(written, "digits"), record_of(tmp_path, "digits")
    assert (first["metrics"], first["history"]) == (second["metrics"], second["history"])


def test_tensorboard_gets_every_epoch_when_asked(tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path / "out"), "--tensorboard", str(tmp_path / "logs"), "--epochs", "2"]
    assert main(digits.RECIPE, arguments) == 0

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped] # noqa: PLC0415  slow to import

    log = EventAccumulator(str(tmp_path / "logs")).Reload()
    history = record_of(tmp_path / "out", "digits")["history"]
    for tag, key in {
        "loss/training": "loss",
        "loss/validation": "validation_loss",
        "gradient_norm/mean": "gradient_norm_mean",
        "learning_rate": "learning_rate",
    }.items():
        assert [scalar.value for scalar in log.Scalars(tag)] == pytest.approx([epoch[key] for epoch in history])


def test_without_tensorboard_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [
        name for name in sys.modules if name.partition(".")[0] == "tensorboard" or "utils.tensorboard" in name
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)

    assert main(digits.RECIPE, ["--output", str(tmp_path / "out"), "--tensorboard", str(tmp_path / "logs")]) == 1

    assert 'pip install -e ".[tensorboard]"' in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output"),
        (["--output", "{folder}", "--epochs", "0"], "expected a whole number of at least 1, got '0'"),
        (["--output", "{folder}", "--seed", "-1"], "expected a whole number of at least 0, got '-1'"),
        (["--output", "{file}"], "cannot be made a folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(SystemExit) as exit_info:
        main(speaker.RECIPE, [argument.format(folder=tmp_path / "new", file=file) for argument in arguments])

    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"seed": 1})

    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"loss": float("nan")})

    assert json.loads(path.read_text()) == {"seed": 1}
    assert list(tmp_path.iterdir()) == [path]
