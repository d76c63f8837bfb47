"""Packing and scattering: what goes in comes back to its own caller, whatever shares the batch."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.manifest import Manifest, read_manifest
from serving.tensors import Rows, pack, scatter
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_two_inputs(tmp_path_factory.mktemp("models")))


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


@given(batch=requests())
@settings(deadline=None)
def test_every_request_gets_its_own_rows_and_steps_back(manifest: Manifest, batch: list[Rows]) -> None:
    """A model that passes its inputs through gives each request what it sent, with zeros beyond each row's length."""
    feed = pack(manifest, batch)
    answers = scatter(manifest, {"y": feed["x"] + 1, "count": feed["lengths"]}, batch)

    assert feed["x"].shape == (sum(r.rows for r in batch), max(r.steps for r in batch), FEATURES)
    for request, answer in zip(batch, answers, strict=True):
        real = (np.arange(request.time) < request.lengths[:, None])[..., None]
        np.testing.assert_array_equal(answer["y"], (request.inputs["x"] + 1) * real)
        np.testing.assert_array_equal(answer["count"], request.lengths)


@given(batch=requests())
@settings(deadline=None)
def test_padding_is_zero_and_inputs_without_time_are_stacked(manifest: Manifest, batch: list[Rows]) -> None:
    feed = pack(manifest, batch)
    beyond = np.arange(feed["x"].shape[1]) >= feed["lengths"][:, None]

    assert not feed["x"][beyond].any()
    assert not feed["tokens"][beyond].any()
    np.testing.assert_array_equal(feed["bias"], np.concatenate([r.inputs["bias"] for r in batch]))


def test_a_stepwise_model_starts_from_a_zero_state(tmp_path: Path) -> None:
    manifest = read_manifest(write_lstm(tmp_path, bidirectional=False, stepwise=True))
    assert manifest.state is not None
    rows = Rows(inputs={"x": np.ones((2, 3, FEATURES), np.float32)}, lengths=np.array([3, 3]), time=3)

    feed = pack(manifest, [rows])

    np.testing.assert_array_equal(feed["state"], np.zeros((2, manifest.state.size), np.float32))


@pytest.mark.parametrize("shape", [(1, 3, FEATURES), (3, 3, FEATURES), (2, 4, FEATURES)])
def test_an_output_of_other_rows_or_steps_is_never_handed_out(manifest: Manifest, shape: tuple[int, ...]) -> None:
    """A model whose output lost or gained rows would answer callers with each other's rows."""
    rows = Rows(inputs={}, lengths=np.array([3, 3]), time=3)

    with pytest.raises(ValueError, match="2 rows of 3 steps went in"):
        scatter(manifest, {"y": np.zeros(shape), "count": np.zeros(2)}, [rows])
