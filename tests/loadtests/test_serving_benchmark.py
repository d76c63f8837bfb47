"""The server's benchmark: it counts what really happened, and runs from end to end."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtests.benchmarks import serving
from loadtests.benchmarks.serving_figures import GAIN, Figure, by_front
from loadtests.benchmarks.serving_fronts import GRPCIO, NATIVE, fronts_here, server_with
from loadtests.benchmarks.serving_measuring import Job, Run, load
from loadtests.benchmarks.serving_models import (
    LENGTH_BYTES,
    LONGEST,
    OUTLIER_STEPS,
    SHORTEST,
    TINY,
    lengths_of,
    write_models,
    write_requests,
)
from loadtests.benchmarks.serving_show import lines_of, plot, show
from serving._proto import open_inference_pb2 as oip
from serving.wire.native import library

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the load needs a core of its own")


def run_of(codes: list[int], latencies: list[float], *, seconds: float = 2.0) -> Run:
    return Run(
        index=np.arange(len(codes)),
        latency=np.array(latencies),
        code=np.array(codes),
        seconds=seconds,
        cpu_seconds=1.0,
    )


def test_rates_and_percentiles_count_only_what_was_answered() -> None:
    run = run_of([0, 0, 8, 4], [0.1, 0.3, 9.0, 9.0])

    assert run.rate == 1.0
    assert run.steps_rate([10, 20, 1000, 1000]) == 15.0
    assert run.percentile(100) == 0.3
    assert run.percentile(50, among=run.index == 0) == 0.1
    assert run.cpu_per_request == 0.25, "what was refused cost CPU as well"


@given(value=st.floats(0, 10), target=st.floats(0.01, 10))
def test_a_target_is_met_from_its_own_side(value: float, target: float) -> None:
    more, less = (
        Figure(workload="w", measure="m", value=value, lowest=value, highest=value, target=target, at_least=at_least)
        for at_least in (True, False)
    )

    assert more.verdict == ("met" if value >= target else "missed")
    assert less.verdict == ("met" if value <= target else "missed")


def test_what_a_front_gains_is_the_median_of_its_turns_and_not_of_the_medians() -> None:
    figures = by_front("w", "m", {NATIVE: [2.0, 30.0, 8.0], GRPCIO: [1.0, 10.0, 8.0]}, target=5.0)

    assert [(each.front, each.value, each.target) for each in figures] == [
        (NATIVE, 8.0, 5.0),
        (GRPCIO, 8.0, None),
        (GAIN, 2.0, None),
    ]
    assert figures[2].lowest == 1.0
    assert figures[2].highest == 3.0


def test_a_gain_over_nothing_is_not_told_and_all_fronts_can_be_held_to_a_target() -> None:
    figures = by_front("w", "m", {NATIVE: [0.1], GRPCIO: [-0.1]}, target=0.0, at_least=False, for_all=True)

    assert [(each.front, each.verdict) for each in figures] == [(NATIVE, "missed"), (GRPCIO, "met")]


def test_fronts_stand_side_by_side_and_each_held_one_has_its_verdict(tmp_path: Path) -> None:
    figures = [
        *by_front("W1", "rate", {NATIVE: [3_000.0], GRPCIO: [1_000.0]}, target=2_000.0),
        *by_front("W1", "added", {NATIVE: [0.2], GRPCIO: [0.4]}, target=0.25, at_least=False, for_all=True),
        *by_front("W1", "failed", {NATIVE: [0.0], GRPCIO: [0.0]}, target=0.0, at_least=False),
    ]
    console = Console(record=True, width=200, file=io.StringIO())

    show(figures, [], console, fronts=(NATIVE, GRPCIO))
    plot(figures, [], tmp_path / "plot.png", fronts=(NATIVE, GRPCIO))

    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    assert ["rate", "≥ 2000", "3,000", "1,000", "3", "", "met"] in rows
    assert ["added", "≤ 0.25", "0.2", "0.4", "0.5", "", "native met, grpcio missed"] in rows
    assert len(lines_of(figures)) == 3
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_lengths_are_seeded_and_as_they_are_said_to_be() -> None:
    plain, mixed = (np.array(lengths_of(4_000, outliers=each)) for each in (False, True))

    assert plain.min() >= SHORTEST
    assert plain.max() <= LONGEST
    assert 55 <= np.median(plain) <= 65
    assert (mixed == OUTLIER_STEPS).mean() == 0.05
    assert lengths_of(100, outliers=True) == lengths_of(100, outliers=True)


def test_requests_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_requests(tmp_path / "m", "tiny", TINY, [3, 70], timeout_us=5)

    content, messages = (tmp_path / "m").read_bytes(), []
    while content:
        end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
        messages.append(oip.ModelInferRequest.FromString(content[LENGTH_BYTES:end]))
        content = content[end:]
    assert [list(message.inputs[0].shape) for message in messages] == [[1, 3, 8], [1, 70, 8]]
    assert [len(message.raw_input_contents[0]) for message in messages] == [3 * 8 * 4, 70 * 8 * 4]
    assert messages[0].parameters["timeout"].int64_param == 5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench") / "models"
    write_models(TINY, root, {"tiny": "", "tiny-off": "max_batch_rows: 1"}, int8="tiny-int8")
    return root


@two_cores
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("front", fronts_here())
def test_the_load_loses_nothing_and_the_server_counted_the_same(
    models: Path, program: Path, tmp_path: Path, front: str, *, stream: bool
) -> None:
    write_requests(tmp_path / "m", "tiny", TINY, [5, 60, 17])
    job = Job(messages=tmp_path / "m", seconds=0.5, callers=8, stream=stream)
    with server_with(front, models) as server:
        run = load(server, job, program, tmp_path, model="tiny")

    assert len(run.code) > 8
    assert run.answered.all()
    assert 1.0 <= run.rows_per_call <= 8.0
    assert set(run.index) == {0, 1, 2}


@two_cores
@pytest.mark.parametrize("front", fronts_here())
def test_an_open_loop_sends_what_was_meant_and_tells_what_was_refused(
    models: Path, program: Path, tmp_path: Path, front: str
) -> None:
    write_requests(tmp_path / "m", "tiny", TINY, [60], timeout_us=1)
    job = Job(messages=tmp_path / "m", arrivals=[number / 200 for number in range(40)])
    with server_with(front, models) as server:
        run = load(server, job, program, tmp_path)

    assert len(run.code) == 40
    assert set(run.code) == {4}, "DEADLINE_EXCEEDED: a microsecond is not enough"


@two_cores
@pytest.mark.usefixtures("program")  # it is skipped where the load generator cannot be built
def test_the_benchmark_runs_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["--quick", "--only", "W1,empty,idle,connections", "--output", str(tmp_path)]) == 0

    record = json.loads((tmp_path / "serving.json").read_text())
    told = {(each["workload"], each["measure"], each["front"]): each["value"] for each in record["figures"]}
    assert record["fronts"] == list(fronts_here())
    for front in fronts_here():
        assert told["W1 FP32", "requests/s over engine limit", front] > 0
        assert told["W1 INT8", "requests/s over engine limit", front] > 0
        assert ("W1 FP32, streams", "p99, ms", front) in told
        assert told["empty model", "CPU per request, us", front] > 0
        assert ("one caller, 64 wide", "p50 over that of the bare engine, ms more", front) in told
        many = "100 connections, 1,000 requests in flight"
        assert told[many, "requests that failed", front] == 0
        assert told[many, "memory peak, MiB", front] >= told[many, "memory before, MiB", front]
    assert ("W1 FP32", "CPU over (an empty front by grpcio + engine)", GRPCIO) in told
    assert (("W1 FP32", "requests/s", GAIN) in told) is (len(fronts_here()) == 2)
    assert (tmp_path / "serving.png").stat().st_size > 10_000
    assert "targets met" in capsys.readouterr().out


@two_cores
@pytest.mark.usefixtures("program")
def test_without_the_native_front_the_other_is_measured_alone_and_the_benchmark_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "none.so")

    assert serving.main(["--quick", "--only", "empty", "--output", str(tmp_path)]) == 0

    record = json.loads((tmp_path / "serving.json").read_text())
    assert record["fronts"] == [GRPCIO]
    assert {each["front"] for each in record["figures"]} == {GRPCIO}
    assert all(each["target"] is None for each in record["figures"]), "the target is for the native front"
    assert "the native front was not built here" in capsys.readouterr().out


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        serving.main(["--only", "W1,W9"])

    assert ended.value.code == 2
    assert "unknown ['W9']" in capsys.readouterr().err
