"""`python -m loadtests.simulate`: its questions can be asked, and its answers are shown."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.simulate import __main__ as program
from loadtests.simulate.costs import MEASURED, Measured
from loadtests.simulate.experiments import answers
from loadtests.simulate.limits import Cluster, figures
from loadtests.simulate.questions import FULL, QUICK, Case, cases
from loadtests.simulate.show import plot, show
from tests.loadtests.simulate.house import scenario


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured.read(MEASURED)


@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_every_question_can_be_asked(measured: Measured, effort: object) -> None:
    asked = cases(measured, QUICK if effort is QUICK else FULL)

    assert len({(case.question, case.setting) for case in asked}) == len(asked)
    assert max(case.scenario.replicas.count for case in asked) == (100 if effort is QUICK else 1000)


def test_answers_come_in_order_from_all_processes_and_are_shown(measured: Measured, tmp_path: Path) -> None:
    small = [
        Case(case.question, case.setting, scenario(seconds=0.5, seed=number))
        for number, case in enumerate(cases(measured, QUICK))
    ]
    answered = list(answers(small, processes=2))
    page = StringIO()
    show(answered, figures(Cluster(), measured.servers["medium"]), Console(file=page, width=160))
    plots = plot(answered, tmp_path)

    assert [(each.question, each.setting) for each in answered] == [(case.question, case.setting) for case in small]
    assert "least_request" in page.getvalue()
    assert "At a thousand replicas" in page.getvalue()
    assert all(path.stat().st_size > 10_000 for path in plots)


def test_the_program_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--only", "least request, load 0.9", "--processes", "1", "--output", str(tmp_path)]) == 0

    record = json.loads((tmp_path / "simulate.json").read_text())
    assert [each["setting"] for each in record["answers"]] == ["1 proxies", "4 proxies", "16 proxies", "64 proxies"]
    assert record["limits"]
    assert "Plots:" in capsys.readouterr().out


def test_a_fleet_of_ones_own_is_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(program.__file__).with_name("scenario.yaml")

    assert program.main(["--scenario", str(example), "--output", str(tmp_path)]) == 0

    (answer,) = json.loads((tmp_path / "simulate.json").read_text())["answers"]
    assert 0.9 < answer["good_share"] <= 1
    assert max(sample["ready"] for sample in answer["samples"]) > 4, "the surge was seen"
    assert (tmp_path / "simulate-scenario.png").stat().st_size > 10_000
    assert "At a thousand replicas" not in capsys.readouterr().out


GOOD = "model: wide\nseconds: 9\ntraffic: {rate: 1}\nreplicas: {count: 1}\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff", "not valid YAML"),
        ("model: [", "not valid YAML"),
        ("model: wide\nmodel: wide\n", "model"),
        ("", "either `model` or `cost`; models are medium, wide"),
        (GOOD + "cost: {}\n", "either `model` or `cost`"),
        (GOOD.replace("wide", "huge"), "model 'huge' has no measured costs; models are medium, wide"),
        (GOOD + "replica: 3\n", "replica: Extra inputs are not permitted"),
        (GOOD.replace("rate: 1", "rate: -1"), "traffic.rate: Input should be greater than 0 (got -1)"),
        (GOOD + "autoscaling: {targets: [{metric: cpu, target: 0.5}], most: 3}\n", "none would ever become ready"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_with_where_and_why(
    content: str | bytes | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scenario.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert program.main(["--scenario", str(path), "--output", str(tmp_path)]) == 1
    refused = capsys.readouterr().err
    assert str(path) in refused.replace("\n", "")
    assert why in refused.replace("\n", " ")


@pytest.mark.parametrize("content", ["", "{}", '{"machine": 3}'])
def test_costs_that_are_none_are_refused_with_what_to_do(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "costs.json").write_text(content)

    assert program.main(["--costs", str(tmp_path / "costs.json")]) == 1
    assert "calibrate --save" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--only", "nothing"], "no question begins so"),
        (["--only", "balance", "--scenario", "x.yaml"], "not allowed with"),
        (["--full", "--scenario", "x.yaml"], "not allowed with"),
        (["--processes", "0"], "expected at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)

    assert ended.value.code == 2
    assert why in capsys.readouterr().err
