"""Packing and scattering: what goes in comes back to its own caller, whatever shares the batch and however it is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.manifest import Manifest, read_manifest
from serving.tensors import Answer, Part, Rows, pack, scatter
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_two_inputs(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True))


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
    return [part for answer in answers for part in answer.whole()]


@given(batch=requests(), data=st.data())
@settings(deadline=None)
def test_every_request_gets_its_own_rows_and_steps_back(
    manifest: Manifest, batch: list[Rows], data: st.DataObject
) -> None:
    """A model that passes its inputs through gives each request what it sent, with zeros beyond each row's length.

    The rows are cut at any step and run in any order of requests; a row's own steps keep theirs.
    """
    answers = [Answer(manifest, request) for request in batch]
    pieces = []
    for answer, row, _, stop in all_parts(answers):
        cut = data.draw(st.integers(0, stop - 1))
        pieces += [(0, Part(answer, row, 0, cut))] if cut else []
        pieces.append((1, Part(answer, row, cut, stop)))
    for turn in (0, 1):
        parts = data.draw(st.permutations([part for when, part in pieces if when == turn]))
        if parts:
            feed = pack(manifest, parts)
            assert feed["x"].shape == (len(parts), max(part.stop - part.start for part in parts), FEATURES)
            scatter(manifest, {"y": feed["x"] + 1, "count": feed["lengths"]}, parts)

    for request, answer in zip(batch, answers, strict=True):
        real = (np.arange(request.time) < request.lengths[:, None])[..., None]
        np.testing.assert_array_equal(answer.outputs["y"], (request.inputs["x"] + 1) * real)
        assert answer.outputs["count"].shape == (request.rows,)


@given(batch=requests())
@settings(deadline=None)
def test_padding_is_zero_and_inputs_without_time_are_stacked(manifest: Manifest, batch: list[Rows]) -> None:
    feed = pack(manifest, all_parts([Answer(manifest, request) for request in batch]))
    beyond = np.arange(feed["x"].shape[1]) >= feed["lengths"][:, None]

    assert not feed["x"][beyond].any()
    assert not feed["tokens"][beyond].any()
    np.testing.assert_array_equal(feed["bias"], np.concatenate([r.inputs["bias"] for r in batch]))
    np.testing.assert_array_equal(feed["lengths"], np.concatenate([r.lengths for r in batch]))


def test_an_output_without_time_is_that_of_the_last_part(manifest: Manifest) -> None:
    rows = Rows(
        inputs={"tokens": np.ones((2, 3), np.int64), "x": np.ones((2, 3, 3), np.float32), "bias": np.ones((2, 3))},
        lengths=np.array([3, 2]),
        time=3,
    )
    answer = Answer(manifest, rows)
    for numbers, parts in (
        ([1, 2], [Part(answer, 0, 0, 2), Part(answer, 1, 0, 2)]),
        ([3], [Part(answer, 0, 2, 3)]),
    ):
        steps = parts[0].stop - parts[0].start
        scatter(manifest, {"y": np.zeros((len(parts), steps, FEATURES)), "count": np.array(numbers)}, parts)

    assert answer.outputs["count"].tolist() == [3, 2]


def test_a_stepwise_row_starts_from_its_own_state_or_zeros_and_goes_on_from_the_last(stepwise: Manifest) -> None:
    """The state that a request came with is not written into: it may be a view of the bytes that arrived."""
    assert stepwise.state is not None
    size = stepwise.state.size
    sent = np.full((1, size), 7, np.float32)
    sent.flags.writeable = False
    x = {"x": np.ones((1, 3, FEATURES), np.float32)}
    fresh = Answer(stepwise, Rows(inputs=x, lengths=np.array([3]), time=3))
    continued = Answer(stepwise, Rows(inputs=x, lengths=np.array([3]), time=3, state=sent))
    first = [Part(fresh, 0, 0, 2), Part(continued, 0, 0, 2)]

    assert pack(stepwise, first)["state"].tolist() == [[0.0] * size, [7.0] * size]

    outputs = {"steps": np.zeros((2, 2, 4)), "last": np.zeros((2, 4))}
    scatter(stepwise, {**outputs, "next_state": np.array([[1.0] * size, [2.0] * size])}, first)

    assert pack(stepwise, [Part(continued, 0, 2, 3), Part(fresh, 0, 2, 3)])["state"][:, 0].tolist() == [2.0, 1.0]
    assert continued.outputs["next_state"].tolist() == [[2.0] * size]


def test_rows_of_one_request_share_buffers_that_no_scatter_has_to_make(manifest: Manifest) -> None:
    """Two instances that scatter into two rows at once would each make one, and the rows of one would be lost."""
    answer = Answer(manifest, Rows(inputs={}, lengths=np.array([3, 2]), time=3))
    made = dict(answer.outputs)
    for part in answer.whole():
        steps = part.stop
        scatter(manifest, {"y": np.ones((1, steps, FEATURES), np.float32), "count": np.array([steps])}, [part])

    assert all(answer.outputs[name] is made[name] for name in ("y", "count"))
    assert answer.outputs["count"].tolist() == [3, 2]
    assert answer.outputs["y"].sum() == 5 * FEATURES


@pytest.mark.parametrize("shape", [(1, 3, FEATURES), (3, 3, FEATURES), (2, 4, FEATURES)])
def test_an_output_of_other_rows_or_steps_is_never_handed_out(manifest: Manifest, shape: tuple[int, ...]) -> None:
    """A model whose output lost or gained rows would answer callers with each other's rows."""
    answer = Answer(manifest, Rows(inputs={}, lengths=np.array([3, 3]), time=3))

    with pytest.raises(ValueError, match="2 rows of 3 steps went in"):
        scatter(manifest, {"y": np.ones(shape), "count": np.ones(2)}, answer.whole())
    assert not any(output.any() for output in answer.outputs.values())
