"""Recorded arrivals: what is written is read, and a line that is wrong is named."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.trace import Arrival, read_trace, write_trace

unhurried = settings(deadline=None)  # the machine may be busy

gaps = st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["speaker", "digits", 'a "b", c']), st.integers(1, 10**6)))


def arrivals_of(drawn: list[tuple[float, str, int]]) -> list[Arrival]:
    now, arrivals = 0.0, []
    for gap, model, steps in drawn:
        now = round(now + gap, 6)
        arrivals.append(Arrival(now, model, steps))
    return arrivals


@unhurried
@given(gaps.filter(len))
def test_a_trace_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[float, str, int]]
) -> None:
    folder, arrivals = tmp_path_factory.mktemp("traces"), arrivals_of(drawn)
    write_trace(folder / "trace.csv", arrivals)
    lines = (
        json.dumps(dict(zip(("model", "seconds", "steps"), (a.model, a.seconds, a.steps), strict=True)))
        for a in arrivals
    )
    (folder / "trace.jsonl").write_text("\n".join(lines))

    for name in ("trace.csv", "trace.jsonl"):
        assert read_trace(folder / name, longest_gap=61) == arrivals


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["0,a,5", "1,a,5", "0.5,a,5"], "line 4: time falls from 1 to 0.5 s"),
        (["-1,a,5"], "line 2: seconds is '-1'; expected a number from 0"),
        (["soon,a,5"], "line 2: seconds is 'soon'"),
        (["inf,a,5"], "line 2: seconds is 'inf'"),
        (["nan,a,5"], "line 2: seconds is 'nan'"),
        (["0,a,5", "100,a,5"], "line 3: nothing arrives for 100 s; expected gaps of at most 60 s"),
        (["100,a,5"], "line 2: nothing arrives for 100 s"),
        (["0,,5"], "line 2: model is ''"),
        (["0,a,0"], "line 2: steps is '0'"),
        (["0,a,1.5"], "line 2: steps is '1.5'"),
        (["0,a,-3"], "line 2: steps is '-3'"),
        (["0,a,99999999999999999999"], "line 2: steps is"),
        (["0,a"], "line 2: 2 fields; expected 3"),
        (["0,a,5", "", "1,a,5"], "line 3: 0 fields; expected 3"),
        ([], "has no arrivals"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, lines: list[str], why: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["seconds,model,steps", *lines]) + "\n")

    with pytest.raises(TrafficError, match=why):
        read_trace(path)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"seconds": 0, "model": "a", "steps": 5, "rows": 1}', "line 2: the keys seconds,model,steps,rows; expected"),
        ('{"seconds": 0, "model": "a"}', "line 2: the keys seconds,model; expected"),
        ("[0, 1]", "line 2: '\\[0, 1\\]'; expected an object"),
        ("{0", "line 2: no JSON"),
        ("", "line 2: no JSON"),
        ("[" * 100_000, "line 2: no JSON"),
        ('{"seconds": true, "model": "a", "steps": 5}', "line 2: seconds is True"),
        ('{"seconds": null, "model": "a", "steps": 5}', "line 2: seconds is None"),
        ('{"seconds": 0, "model": 3, "steps": 5}', "line 2: model is 3"),
        ('{"seconds": 0, "model": "a", "steps": true}', "line 2: steps is True"),
        ('{"seconds": 0, "model": "a", "steps": 1e3}', "line 2: steps is 1000.0"),
    ],
)
def test_an_object_that_is_wrong_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"seconds": 0, "model": "a", "steps": 5}\n' + line + '\n{"seconds": 0, "model": "a", "steps": 5}\n'
    )

    with pytest.raises(TrafficError, match=why):
        read_trace(path)


@pytest.mark.parametrize("header", ["", "seconds,model", "seconds,model,steps,rows", "seconds,model,length"])
def test_other_columns_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(header + "\n0,a,5\n")

    with pytest.raises(TrafficError, match=r"line 1: the columns are .*; expected seconds,model,steps"):
        read_trace(path)


def test_what_is_no_trace_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00seconds")
    for name, why in (
        ("trace.txt", "expected a name that ends with .csv, .jsonl, .ndjson"),
        ("none.csv", "cannot be read as CSV"),
        ("binary.csv", "cannot be read as CSV"),
    ):
        with pytest.raises(TrafficError, match=why):
            read_trace(tmp_path / name)


@unhurried
@given(st.binary(max_size=300))
def test_whatever_a_file_holds_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("traces")
    for name, begin in (("trace.csv", b"seconds,model,steps\n"), ("trace.jsonl", b"")):
        (folder / name).write_bytes(begin + content)
        with suppress(TrafficError):  # and by nothing else
            assert read_trace(folder / name)
