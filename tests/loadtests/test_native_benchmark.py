"""The native engine's benchmark on small layers: what it writes, what it compares, how it judges."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loadtests.benchmarks import native
from loadtests.benchmarks.native_measuring import FULL, MIXED, Measured, Point, Sameness, compare
from loadtests.benchmarks.native_models import STEPS, Batch, Engines, Stack, feed_of
from tests.support.native import needs_library

SAME = Sameness(what="1 thread and 2", values=100, differences=0)


def point(batch: Batch, *, fp32: float, int8: float | None = None, tile: float | None = None) -> Point:
    """Timed in three rounds: the native engine takes a second for a multiply-add."""
    times = {"fp32": fp32, "int8": int8, "tile": tile, "native": 1.0}
    return Point(
        batch=batch,
        multiply_adds=1,
        tile_multiply_adds=1 if tile else 0,
        seconds={name: np.full(3, seconds) for name, seconds in times.items() if seconds},
    )


MEASURED = Measured(
    stack=Stack(hidden=256),
    points=(
        point(Batch(rows=1), fp32=2.5, int8=1.3),
        point(Batch(rows=8), fp32=0.5, int8=1.3),
        point(FULL, fp32=2.0, int8=1.3, tile=0.7),
        point(MIXED, fp32=0.5, int8=2.2),
    ),
    rms={"int8": 0.02, "native": 0.02},
    sameness=(SAME,),
    instruction_set="avx2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the benchmark once, as a user would, three turns on each batch."""
    folder = tmp_path_factory.mktemp("benchmark") / "made"
    assert native.main(["--sizes", "5,256", "--seconds", "0", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "native.json").read_text())
    return content


@needs_library
def test_the_folder_holds_the_record_the_tables_and_the_plot(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"native.json", "native.md", "native.png"}
    assert (folder / "native.png").read_bytes().startswith(b"\x89PNG")


@needs_library
def test_the_tables_have_as_many_cells_in_every_line_and_name_the_machine(folder: Path, record: dict[str, Any]) -> None:
    written = (folder / "native.md").read_text()

    assert f"{record['machine']}; native kernels: {record['instruction_set']} (of " in written
    tables = [part.splitlines() for part in written.split("\n\n") if part.startswith("|")]
    assert len(tables) == 5
    assert all(len({line.count("|") for line in lines}) == 1 for lines in tables)


@needs_library
def test_the_record_says_when_on_what_and_with_which_versions_it_was_made(record: dict[str, Any]) -> None:
    assert record["threads"] == 1
    assert record["machine"]
    assert record["instruction_set"] in record["instruction_sets"]
    assert record["date"].endswith("+00:00")
    assert {"onnx", "onnxruntime"} <= record["versions"].keys()


@needs_library
def test_every_form_took_every_turn_and_the_tile_stands_by_large_layers_only(record: dict[str, Any]) -> None:
    forms = {
        (model["name"], one["rows"], one["mixed"]): set(one["seconds"])
        for model in record["models"]
        for one in model["points"]
    }

    batches = [(1, False), (8, False), (32, False), (32, True)]
    lstm, gru = {"fp32", "int8", "native"}, {"fp32", "native"}
    expected = {
        (name, *batch): of | ({"tile"} if batch == (32, False) and "256" in name else set())
        for name, of in (("LSTM 2x5", lstm), ("LSTM 2x256", lstm), ("GRU 2x256", gru))
        for batch in batches
    }
    assert forms == expected
    for model in record["models"]:
        for one in model["points"]:
            assert {len(turns) for turns in one["seconds"].values()} == {3}
            assert all(turn > 0 for turns in one["seconds"].values() for turn in turns)


@needs_library
def test_answers_were_compared_and_are_the_same_to_the_bit(record: dict[str, Any]) -> None:
    for model in record["models"]:
        assert len(model["sameness"]) == 3
        assert all(same["values"] > STEPS * model["hidden"] for same in model["sameness"])
        assert [same["differences"] for same in model["sameness"]] == [0, 0, 0]


@needs_library
def test_errors_are_those_of_rounding(record: dict[str, Any]) -> None:
    errors = {model["name"]: model["rms"] for model in record["models"]}

    assert errors["GRU 2x256"].keys() == {"native"}
    assert all(0 < error < 0.05 for forms in errors.values() for error in forms.values())


@needs_library
@pytest.mark.parametrize("stack", [Stack(hidden=8), Stack(operator="GRU", hidden=8)], ids=lambda stack: stack.operator)
def test_all_forms_hold_the_same_layers_and_take_a_batch_of_mixed_lengths(stack: Stack) -> None:
    engines = Engines(stack)
    feed = feed_of(MIXED.x, MIXED.lengths)

    answers = {name: runtime.run(feed)["y"] for name, runtime in engines.onnxruntime.items()}
    answers["native"] = engines.native.run(MIXED.x, MIXED.lengths)[0]

    assert answers.keys() == ({"fp32", "native"} | ({"int8"} if stack.operator == "LSTM" else set()))
    for answer in answers.values():
        np.testing.assert_allclose(answer, answers["fp32"], atol=0.05)


def test_mixed_lengths_are_spread_over_all_steps() -> None:
    lengths = MIXED.lengths

    assert (lengths.min(), lengths.max(), len(lengths)) == (1, STEPS, 32)
    assert lengths.mean() == pytest.approx((1 + STEPS) / 2, abs=0.5)
    assert (lengths != np.sort(lengths)).any(), "as they come, not sorted"
    assert (FULL.lengths == STEPS).all()


@pytest.mark.parametrize(
    ("model", "missed"),
    [
        (MEASURED, []),
        (replace(MEASURED, rms={"int8": 0.02, "native": 0.021}), ["RMS error, INT8 over native"]),
        (
            replace(MEASURED, points=(point(Batch(rows=1), fp32=2.4, int8=1.2),)),
            ["batch 1, over INT8", "batch 1, over FP32"],
        ),
        (replace(MEASURED, points=(point(Batch(rows=8), fp32=0.5, int8=1.2),)), ["batch 8, over INT8"]),
        (
            replace(MEASURED, points=(point(FULL, fp32=1.9, int8=1.3, tile=0.6),)),
            ["batch 32, over FP32", "batch 32, of the tile's peak"],
        ),
        (replace(MEASURED, points=(point(MIXED, fp32=9.0, int8=2.1),)), ["batch 32 mixed, over INT8"]),
        (replace(MEASURED, stack=Stack(hidden=64), points=(point(FULL, fp32=1.0, int8=1.3),)), []),
        (
            replace(
                MEASURED, stack=native.GRU, rms={"native": 1.0}, points=(point(FULL, fp32=1.9), point(MIXED, fp32=1.0))
            ),
            ["batch 32, over FP32"],
        ),
    ],
)
def test_a_target_is_met_down_to_its_limit(model: Measured, missed: list[str]) -> None:
    assert [check.measure for check in native.judge(model) if check.verdict == "missed"] == missed


def test_any_bit_that_differs_is_counted() -> None:
    one = np.array([0.0, 1.0, 2.0], np.float32)
    other = np.array([-0.0, 1.0, np.nextafter(np.float32(2), np.float32(3))], np.float32)

    assert compare("signs", [(one, one), (one, other)]) == Sameness(what="signs", values=6, differences=2)


def test_answers_that_differ_fail_the_run_and_are_named() -> None:
    shown = io.StringIO()
    different = replace(MEASURED, sameness=(SAME, replace(SAME, what="chunks", differences=3)))

    assert native.exit_code([MEASURED], Console(file=shown)) == 0
    assert shown.getvalue() == ""
    assert native.exit_code([MEASURED, different], Console(file=shown)) == 1
    assert shown.getvalue() == "LSTM 2x256, chunks: 3 of 100 values differ\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "64,x"], "'64,x' is no list of sizes; expected numbers above zero"),
        (["--sizes", "0"], "'0' is no list of sizes"),
        (["--output", __file__], "cannot be made a folder"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        native.main(["--output", str(tmp_path), *arguments])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err
