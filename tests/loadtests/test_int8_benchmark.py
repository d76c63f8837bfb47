"""The INT8 benchmark in its quick form: what it writes, what it prints, how it judges."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loadtests.benchmarks import int8
from loadtests.benchmarks.int8_checks import Check, check_random, check_trained
from loadtests.benchmarks.int8_measuring import RandomModel, TrainedModel, measure_classifier
from loadtests.benchmarks.int8_models import Size
from loadtests.benchmarks.int8_show import show
from training import digits
from training.datasets import DataSet, Part
from training.loop import Settings
from training.models import DIGIT_PIXELS, DIGITS, DigitReader
from training.turns import Spread

MEASURES = ["weights, bytes", "file, bytes", "latency, batch 1", "latency, batch 32", "RMS error"]
MODEL = RandomModel(
    size=Size(hidden=256),
    weights_bytes=(100, 26),
    file_bytes=(110, 30),
    seconds={1: (1.0, 0.4), 32: (10.0, 9.0)},
    ratios={1: Spread(median=0.4, p25=0.38, p75=0.43), 32: Spread(median=0.9, p25=0.8, p75=1.0)},
    rms=0.05,
    steps=48,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the benchmark once, as a user would."""
    folder = tmp_path_factory.mktemp("benchmark") / "made"
    assert int8.main(["--quick", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "int8.json").read_text())
    return content


def test_the_folder_holds_the_record_and_the_plot(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"int8.json", "int8.png"}
    assert (folder / "int8.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_says_when_on_what_and_with_which_versions_it_was_made(record: dict[str, Any]) -> None:
    assert record["threads"] == 1
    assert record["machine"]
    assert record["date"].endswith("+00:00")
    assert {"torch", "onnxruntime"} <= record["versions"].keys()
    assert (len(record["random_models"]), record["trained_models"]) == (2, [])


def test_every_measure_of_every_model_is_positive_and_judged(record: dict[str, Any]) -> None:
    checks = record["checks"]

    assert [(check["model"], check["measure"]) for check in checks] == [
        (model, measure) for model in ("2x64", "2x256") for measure in MEASURES
    ]
    for check in checks:
        assert check["measured"] > 0
        assert check["why"]
        if check["spread"] is not None:
            assert 0 < check["spread"]["p25"] <= check["measured"] <= check["spread"]["p75"]
        expected = "no target"
        if check["target"] is not None:
            expected = "met" if check["measured"] <= check["target"] else "missed"
        assert check["verdict"] == expected


def test_only_layers_of_256_and_more_have_targets(record: dict[str, Any]) -> None:
    asked = {(check["model"], check["measure"]): check["target"] for check in record["checks"] if check["target"]}

    assert asked == {
        ("2x256", "weights, bytes"): 0.26,
        ("2x256", "latency, batch 1"): 0.40,
        ("2x256", "RMS error"): 0.05,
    }


def test_weights_bytes_are_what_the_layers_shapes_give(record: dict[str, Any]) -> None:
    """2x64 with 64 features has four matrices of 64 by 256; INT8 adds 4 bytes of scale and 1 of zero per channel."""
    assert record["random_models"][0]["weights_bytes"] == [4 * 64 * 256 * 4, 4 * (64 * 256 + 256 * 5)]


def test_errors_are_those_of_rounding_and_files_are_smaller(record: dict[str, Any]) -> None:
    for model in record["random_models"]:
        assert 0 < model["rms"] < 0.05
        assert model["file_bytes"][1] < 0.3 * model["file_bytes"][0]


def few_digits() -> DataSet:
    data = digits.RECIPE.data()
    train, validation, test = (
        part.take(np.arange(0, len(part), 10)) for part in (data.train, data.validation, data.test)
    )
    return DataSet(train=train, validation=validation, test=test)


def tiny_digits() -> DigitReader:
    return DigitReader(pixels=DIGIT_PIXELS, hidden=8, digits=DIGITS, layers=2)


def test_a_classifier_is_trained_and_both_precisions_are_judged_on_its_held_out_rows() -> None:
    recipe = replace(
        digits.RECIPE, data=few_digits, model=tiny_digits, settings=Settings(epochs=20, learning_rate=1e-2)
    )
    test: Part = few_digits().test

    measured = measure_classifier(recipe, features=DIGIT_PIXELS, console=Console(file=io.StringIO()))

    assert measured.rows == len(test)
    assert all(len(test) / 4 < right <= len(test) for right in measured.right), "far better than one of ten"
    assert measured.agreed >= 0.8 * len(test)
    assert abs(measured.right[0] - measured.right[1]) <= len(test) - measured.agreed


@pytest.mark.parametrize(
    ("right", "loss", "verdict"),
    [((200, 200), 0, "met"), ((198, 197), 0.005, "met"), ((198, 196), 0.01, "missed"), ((190, 195), -0.025, "met")],
)
def test_accuracy_may_fall_by_half_a_point(right: tuple[int, int], loss: float, verdict: str) -> None:
    (check,) = check_trained([TrainedModel(name="digits", rows=200, right=right, agreed=180, parameters=1)])

    assert check.measured == pytest.approx(loss)
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("model", "missed"),
    [
        (MODEL, []),
        (replace(MODEL, weights_bytes=(1000, 261)), ["weights, bytes"]),
        (replace(MODEL, ratios={**MODEL.ratios, 1: Spread(median=0.41, p25=0.3, p75=0.5)}), ["latency, batch 1"]),
        (replace(MODEL, rms=0.051), ["RMS error"]),
        (replace(MODEL, rms=0.051, size=Size(hidden=64)), []),
    ],
)
def test_a_target_is_met_up_to_its_limit(model: RandomModel, missed: list[str]) -> None:
    assert [check.measure for check in check_random([model]) if check.verdict == "missed"] == missed


@pytest.mark.parametrize(
    ("target", "straddled"), [(0.39, False), (0.4, True), (0.45, True), (0.51, False), (None, False)]
)
def test_a_target_between_the_quartiles_makes_the_verdict_a_question(target: float | None, *, straddled: bool) -> None:
    shown = io.StringIO()
    spread = Spread(median=0.42, p25=0.4, p75=0.5)
    check = Check(model="2x256", measure="latency, batch 1", measured=0.42, target=target, spread=spread, why="so")

    show([check], Console(file=shown, width=120))

    assert check.straddled == straddled
    assert (f"{check.verdict}? " in shown.getvalue()) == straddled


def test_what_is_shown_names_each_missed_target_and_why() -> None:
    shown = io.StringIO()
    check = Check(model="2x512", measure="RMS error", measured=0.07, target=0.05, why="seven percent")

    show([check, replace(check, model="2x256", measured=0.03)], Console(file=shown, width=120))

    assert "1 of 2 targets met." in shown.getvalue()
    assert "missed 2x512, RMS error: 7.00%; seven percent" in shown.getvalue()


def test_an_output_that_is_a_file_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SystemExit) as exit_info:
        int8.main(["--quick", "--output", str(tmp_path / "file")])

    assert exit_info.value.code == 2
    assert "cannot be made a folder" in capsys.readouterr().err
