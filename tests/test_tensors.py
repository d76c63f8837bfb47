"""Packing and scattering: what goes in comes back to its own caller, whatever shares the batch and however it is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.manifest import read_manifest
from serving.tensors import Answer, Layout, Part, Rows, whole_parts
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout(read_manifest(write_two_inputs(tmp_path_factory.mktemp("models"))))


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout(read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True)))


@st.composite
def requests(draw: st.DrawFn) -> list[Rows]:
    """Draw one to five requests of one to three rows each, with lengths of their own up to their time axis."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = []
    for rows, time in draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 7)), min_size=1, max_size=5)):
        lengths = rng.integers(1, time + 1, rows)
        real = np.arange(time) < lengths[:, None]
        made.append(
            Rows(
                inputs={
                    "tokens": rng.integers(1, 9, (rows, time)) * real,
                    "x": rng.normal(size=(rows, time, FEATURES)).astype(np.float32) * real[..., None],
                    "bias": rng.normal(size=(rows, FEATURES)).astype(np.float32),
                },
                lengths=lengths,
                time=time,
            )
        )
    return made


def all_parts(answers: list[Answer]) -> list[Part]:
    return [part for answer in answers for part in whole_parts(answer)]


@given(batch=requests(), data=st.data())
@settings(deadline=None)
def test_every_request_gets_its_own_rows_and_steps_back(layout: Layout, batch: list[Rows], data: st.DataObject) -> None:
    """A model that passes its inputs through gives each request what it sent, with zeros beyond each row's length.

    The rows are cut at any step and run in any order of requests; a row's own steps keep theirs.
    """
    answers = [layout.answer(request) for request in batch]
    pieces = []
    for answer, row, _, stop in all_parts(answers):
        cut = data.draw(st.integers(0, stop - 1))
        pieces += [(0, Part(answer, row, 0, cut))] if cut else []
        pieces.append((1, Part(answer, row, cut, stop)))
    for turn in (0, 1):
        parts = data.draw(st.permutations([part for when, part in pieces if when == turn]))
        if parts:
            feed = layout.pack(parts)
            assert feed["x"].shape == (len(parts), max(part.stop - part.start for part in parts), FEATURES)
            layout.scatter({"y": feed["x"] + 1, "count": feed["lengths"]}, parts)

    for request, answer in zip(batch, answers, strict=True):
        real = (np.arange(request.time) < request.lengths[:, None])[..., None]
        np.testing.assert_array_equal(layout.outputs_of(answer)["y"], (request.inputs["x"] + 1) * real)
        assert layout.outputs_of(answer)["count"].shape == (request.rows,)


@given(batch=requests())
@settings(deadline=None)
def test_padding_is_zero_and_inputs_without_time_are_stacked(layout: Layout, batch: list[Rows]) -> None:
    feed = layout.pack(all_parts([layout.answer(request) for request in batch]))
    beyond = np.arange(feed["x"].shape[1]) >= feed["lengths"][:, None]

    assert not feed["x"][beyond].any()
    assert not feed["tokens"][beyond].any()
    np.testing.assert_array_equal(feed["bias"], np.concatenate([r.inputs["bias"] for r in batch]))
    np.testing.assert_array_equal(feed["lengths"], np.concatenate([r.lengths for r in batch]))


def pair_of_rows() -> Rows:
    return Rows(
        inputs={
            "tokens": np.ones((2, 3), np.int64),
            "x": np.ones((2, 3, FEATURES), np.float32),
            "bias": np.ones((2, FEATURES), np.float32),
        },
        lengths=np.array([3, 2]),
        time=3,
    )


def test_an_output_without_time_is_that_of_the_last_part(layout: Layout) -> None:
    answer = layout.answer(pair_of_rows())
    for numbers, parts in (
        ([1, 2], [Part(answer, 0, 0, 2), Part(answer, 1, 0, 2)]),
        ([3], [Part(answer, 0, 2, 3)]),
    ):
        y = np.zeros((len(parts), parts[0].stop - parts[0].start, FEATURES), np.float32)
        layout.scatter({"y": y, "count": np.array(numbers)}, parts)

    assert layout.outputs_of(answer)["count"].tolist() == [3, 2]


def test_a_stepwise_row_starts_from_its_own_state_or_zeros_and_goes_on_from_the_last(stepwise: Layout) -> None:
    """The state that a request came with is not written into: it may be a view of the bytes that arrived."""
    assert stepwise.state is not None
    (size,) = stepwise.state.tail
    sent = np.full((1, size), 7, np.float32)
    sent.flags.writeable = False
    x = {"x": np.ones((1, 3, FEATURES), np.float32)}
    fresh = stepwise.answer(Rows(inputs=x, lengths=np.array([3]), time=3))
    continued = stepwise.answer(Rows(inputs=x, lengths=np.array([3]), time=3, state=sent))
    first = [Part(fresh, 0, 0, 2), Part(continued, 0, 0, 2)]

    assert stepwise.pack(first)["state"].tolist() == [[0.0] * size, [7.0] * size]

    outputs = {"steps": np.zeros((2, 2, 4), np.float32), "last": np.zeros((2, 4), np.float32)}
    states = np.array([[1.0] * size, [2.0] * size], np.float32)
    stepwise.scatter({**outputs, "next_state": states}, first)

    rest = [Part(continued, 0, 2, 3), Part(fresh, 0, 2, 3)]
    assert stepwise.pack(rest)["state"][:, 0].tolist() == [2.0, 1.0]
    stepwise.scatter({"steps": outputs["steps"][:, :1], "last": outputs["last"], "next_state": states + 2}, rest)
    assert stepwise.outputs_of(continued)["next_state"].tolist() == [[3.0] * size]


def test_the_rows_of_one_request_have_places_of_their_own(layout: Layout) -> None:
    """Two instances may scatter into two rows at once, so nothing may be made, or replaced, that both write to."""
    answer = layout.answer(pair_of_rows())
    places = {**answer.steps, **answer.lasts}
    for part in whole_parts(answer):
        y = np.full((1, part.stop, FEATURES), part.stop, np.float32)
        layout.scatter({"y": y, "count": np.array([part.stop])}, [part])

    assert all(places[name] is made for name, made in {**answer.steps, **answer.lasts}.items())
    assert layout.outputs_of(answer)["count"].tolist() == [3, 2]
    assert layout.outputs_of(answer)["y"][..., 0].tolist() == [[3, 3, 3], [2, 2, 0]]


@pytest.mark.parametrize(
    ("y", "count"),
    [
        (np.ones((1, 3, FEATURES), np.float32), np.ones(2, np.int64)),
        (np.ones((3, 3, FEATURES), np.float32), np.ones(2, np.int64)),
        (np.ones((2, 4, FEATURES), np.float32), np.ones(2, np.int64)),
        (np.ones((2, 3, FEATURES + 1), np.float32), np.ones(2, np.int64)),
        (np.ones((2, 3, FEATURES), np.float64), np.ones(2, np.int64)),
        (np.ones((2, 3, FEATURES), np.float32), np.ones(3, np.int64)),
    ],
)
def test_an_output_of_another_form_is_never_handed_out(layout: Layout, y: np.ndarray, count: np.ndarray) -> None:
    """A model whose output lost or gained rows would answer callers with each other's rows."""
    answer = layout.answer(pair_of_rows())

    with pytest.raises(ValueError, match=r"2 rows of 3 steps went in, so .* must come out"):
        layout.scatter({"y": y, "count": count}, whole_parts(answer))
    assert not any(b"".join(row) for pieces in answer.steps.values() for row in pieces)
