"""The calibration finds costs that are known, and runs from end to end."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from loadtests.benchmarks.serving_measuring import Run
from loadtests.simulate.calibrate import __main__ as calibrate
from loadtests.simulate.calibrate.engine import ROWS, STEPS, Call
from loadtests.simulate.calibrate.engine import cost_of as cost_of_engine
from loadtests.simulate.calibrate.measuring import CALLERS, Measurements, Replayed
from loadtests.simulate.calibrate.replay import engine_seconds, poisson, simulated
from loadtests.simulate.calibrate.server import Cpu
from loadtests.simulate.calibrate.show import Comparison
from loadtests.simulate.costs import EngineCost
from tests.loadtests.simulate.house import ENGINE, FREE_FRONT, FRONT, cost_of, policy_of

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the load needs a core of its own")


def test_the_table_has_what_calls_cost_and_how_they_vary() -> None:
    draw = random.Random(1)  # noqa: S311  no secret
    truth = EngineCost.linear(call=4e-4, row=2e-5, step=3e-5, row_step=2e-6)
    calls = [
        Call(rows, steps, truth.seconds(rows, steps) * draw.lognormvariate(0, 0.1))
        for rows in ROWS
        for steps in STEPS
        for _ in range(60)
    ]
    found = cost_of_engine(calls)

    assert found.noise == pytest.approx(0.1, rel=0.1)
    for shape in ((1, 8), (5, 40), (16, 16), (64, 64), (64, 400)):
        assert found.seconds(*shape) == pytest.approx(truth.seconds(*shape), rel=0.1)


def replayed(
    sent: int,
    front: float,
    outcomes: dict[tuple[str, str], float],
    latencies: Sequence[float] = (),
    *,
    engine: float = 0.5,
    has_deadlines: bool = False,
) -> Replayed:
    latency = np.array(latencies or [0.01] * sent)
    run = Run(
        index=np.zeros(sent, np.int64), latency=latency, code=np.zeros(sent, np.int64), seconds=1.0, cpu_seconds=1.0
    )
    return Replayed(run, Cpu(front=front, engine=engine), outcomes, has_deadlines)


def measurements(*, engine: float) -> Measurements:
    """Of a front that takes 500 us when busy, 700 alone, 350 refused (of which one wake-up is 100), 200 if unread.

    The engine's calls took in the server so many times what they took in a process of their own.
    """
    idle = ENGINE.seconds(1, 60) + 700e-6 + 300e-6
    overload = {("m", "ok"): 1000.0, ("m", "overload"): 100.0, ("", "overload"): 900.0}
    calls = [Call(rows, steps, ENGINE.seconds(rows, steps)) for rows in ROWS for steps in STEPS for _ in range(3)]
    alone = cost_of(ENGINE, FREE_FRONT)
    at_peak = engine_seconds(alone, policy_of(), [60], callers=CALLERS, sent=1000)
    return Measurements(
        calls=calls,
        peaks=[replayed(1000, 0.5, {("m", "ok"): 1000}, engine=engine * 1000 * at_peak)],
        alone=[replayed(100, 0.07, {("m", "ok"): 100}, [idle] * 100)],
        refused=[replayed(1000, 0.35, {("m", "deadline"): 1000})],
        replays={
            "usual": [replayed(1000, 0.5, {("m", "ok"): 1000})],
            "over": [replayed(2000, 0.5 + 0.025 + 0.18, overload, has_deadlines=True)],
        },
    )


def test_the_front_costs_what_requests_of_each_kind_cost() -> None:
    front = measurements(engine=1.0).cost([60], start=1.0).front

    assert front.answered == pytest.approx(500e-6)
    assert front.wake == pytest.approx(100e-6)
    assert front.unread == pytest.approx(200e-6)
    assert front.message == front.reply == pytest.approx(150e-6)
    assert front.network == pytest.approx(300e-6)


def test_engine_calls_take_as_much_longer_as_they_did_in_the_server() -> None:
    for slower in (1.0, 1.2):
        found = measurements(engine=slower).cost([60], start=1.0).engine
        assert found.seconds(4, 32) == pytest.approx(slower * ENGINE.seconds(4, 32), rel=0.05)


def test_turns_are_put_together() -> None:
    one = measurements(engine=1.0)
    both = Measurements.of([one, one])

    assert both.calls == one.calls * 2
    assert [len(replays) for replays in both.replays.values()] == [2, 2]
    assert both.cost([60], start=1.0).front == one.cost([60], start=1.0).front


def test_a_simulated_trace_has_the_figures_of_a_real_one() -> None:
    trace = poisson("load", 300.0, 2.0, [60], timeout=0.0, seed=1)
    light = simulated(cost_of(), policy_of(), trace, stepwise=True)
    slower = simulated(cost_of(ENGINE.slower(4.0), FRONT), policy_of(), trace, stepwise=True)

    assert light["answers/s"] == pytest.approx(len(trace.arrivals) / trace.arrivals[-1], rel=0.02)
    assert light["p50, ms"] > 1e3 * (ENGINE.seconds(1, 60) + FRONT.answered + FRONT.network)
    assert slower["p50, ms"] > light["p50, ms"]
    assert slower["rows per call"] > light["rows per call"]


def test_a_comparison_is_met_within_its_target() -> None:
    near, far = (
        Comparison(load="l", measure="m", real=[90.0, 100.0, 110.0], simulated=[80.0, value, 120.0])
        for value in (114.0, 84.0)
    )

    assert near.met
    assert not far.met
    assert far.deviation == pytest.approx(-0.16)


@two_cores
def test_the_calibration_runs_from_end_to_end(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del program  # it is skipped where the load generator cannot be built
    assert calibrate.main(["--quick", "--models", "tiny", "--output", str(tmp_path)]) == 0

    model = json.loads((tmp_path / "calibration.json").read_text())["models"]["tiny"]
    assert model["server"]["version_series"] > 100
    assert model["cost"]["engine"]["noise"] > 0
    assert model["cost"]["front"]["unread"] > 0
    assert len(model["comparisons"]) == 25
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
    assert "within 15%" in capsys.readouterr().out


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        calibrate.main(["--models", "tiny,huge"])

    assert ended.value.code == 2
    assert "unknown ['huge']" in capsys.readouterr().err
