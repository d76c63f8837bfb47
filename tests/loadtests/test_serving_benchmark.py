"""The server's benchmark: it counts what really happened, and runs from end to end."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.benchmarks import serving
from loadtests.benchmarks.serving_figures import Figure
from loadtests.benchmarks.serving_measuring import Job, Run, Target, load
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
from serving._proto import open_inference_pb2 as oip
from training.local_server import LocalServer

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


def target_of(server: LocalServer) -> Target:
    port = int(server.address.rpartition(":")[2])
    return Target(port=port, pid=server.process.pid, metrics_url=server.metrics_url)


@two_cores
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_the_load_loses_nothing_and_the_server_counted_the_same(
    models: Path, program: Path, tmp_path: Path, *, stream: bool
) -> None:
    write_requests(tmp_path / "m", "tiny", TINY, [5, 60, 17])
    job = Job(messages=tmp_path / "m", seconds=0.5, callers=8, stream=stream)
    with LocalServer(models) as server:
        run = load(target_of(server), job, program, tmp_path, model="tiny")

    assert len(run.code) > 8
    assert run.answered.all()
    assert 1.0 <= run.rows_per_call <= 8.0
    assert set(run.index) == {0, 1, 2}


@two_cores
def test_an_open_loop_sends_what_was_meant_and_tells_what_was_refused(
    models: Path, program: Path, tmp_path: Path
) -> None:
    write_requests(tmp_path / "m", "tiny", TINY, [60], timeout_us=1)
    job = Job(messages=tmp_path / "m", arrivals=[number / 200 for number in range(40)])
    with LocalServer(models) as server:
        run = load(target_of(server), job, program, tmp_path)

    assert len(run.code) == 40
    assert set(run.code) == {4}, "DEADLINE_EXCEEDED: a microsecond is not enough"


@two_cores
def test_the_benchmark_runs_from_end_to_end(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del program  # it is skipped where the load generator cannot be built
    assert serving.main(["--quick", "--only", "W1,idle", "--output", str(tmp_path)]) == 0

    record = json.loads((tmp_path / "serving.json").read_text())
    told = {(figure["workload"], figure["measure"]) for figure in record["figures"]}
    assert ("W1 unary", "CPU over (our empty front + engine)") in told
    assert ("W1 stream", "p99, ms") in told
    assert ("one caller, 64 wide", "added to grpcio with the engine in its handler, ms") in told
    assert (tmp_path / "serving.png").stat().st_size > 10_000
    assert "targets met" in capsys.readouterr().out


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        serving.main(["--only", "W1,W9"])

    assert ended.value.code == 2
    assert "unknown ['W9']" in capsys.readouterr().err
