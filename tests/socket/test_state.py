"""Streams without server state: the client carries it, and any replica goes on from it."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import sequence, tensor
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a stepwise model."""
    root = tmp_path_factory.mktemp("streams")
    write_lstm(root, "causal", 1, hidden=32, bidirectional=False, stepwise=True)
    write_lstm(root, "causal", 2, hidden=32, bidirectional=False, stepwise=True, seed=2)
    return root


@pytest.fixture(scope="module")
def replicas(models: Path) -> Iterator[list[triton.InferenceServerClient]]:
    with (
        LocalServer(models) as first,
        LocalServer(models, "--threads", "1") as second,
        triton.InferenceServerClient(first.address) as one,
        triton.InferenceServerClient(second.address) as other,
    ):
        yield [one, other]


def carried(state: np.ndarray) -> triton.InferInput:
    given = triton.InferInput("state", list(state.shape), "UINT8")
    given.set_data_from_numpy(state)
    return given


def play(clients: Sequence[triton.InferenceServerClient], pieces: Sequence[np.ndarray]) -> list[triton.InferResult]:
    """Send the pieces of a stream, to the clients in turn, each with the state that came with the answer before."""
    answers: list[triton.InferResult] = []
    for number, piece in enumerate(pieces):
        state = [carried(answers[-1].as_numpy("state"))] if answers else []
        answers.append(clients[number % len(clients)].infer("causal", [tensor("x", piece), *state], model_version="1"))
    return answers


def test_pieces_with_carried_state_answer_as_the_whole_sequence(replicas: list[triton.InferenceServerClient]) -> None:
    """Three rows side by side, in pieces of many sizes down to a single step."""
    x = sequence(np.random.default_rng(1), 3, 97)
    cuts = [0, 1, 2, 10, 40, 41, 90, 97]
    whole = replicas[0].infer("causal", [tensor("x", x)], model_version="1")

    answers = play(replicas[:1], [x[:, start:stop].copy() for start, stop in itertools.pairwise(cuts)])

    steps = np.concatenate([answer.as_numpy("steps") for answer in answers], axis=1)
    np.testing.assert_allclose(steps, whole.as_numpy("steps"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answers[-1].as_numpy("last"), whole.as_numpy("last"), rtol=1e-5, atol=1e-6)


def test_a_stream_that_changes_replicas_gives_the_same_bits(replicas: list[triton.InferenceServerClient]) -> None:
    """One that stays, one that is continued elsewhere at every piece, and both among other streams' requests."""
    x = sequence(np.random.default_rng(2), 1, 60)
    pieces = [x[:, start : start + 7].copy() for start in range(0, 60, 7)]
    stayed = play(replicas[:1], pieces)

    moved = play(replicas, pieces)

    for one, other in zip(stayed, moved, strict=True):
        for name in ("steps", "last", "state"):
            assert one.as_numpy(name).tobytes() == other.as_numpy(name).tobytes()


def test_rows_of_one_request_may_stand_at_different_points_of_their_streams(
    replicas: list[triton.InferenceServerClient],
) -> None:
    client, rng = replicas[0], np.random.default_rng(3)
    old, new, piece = sequence(rng, 1, 9), sequence(rng, 1, 4), sequence(rng, 2, 5)
    states = [client.infer("causal", [tensor("x", x)], model_version="1").as_numpy("state") for x in (old, new)]

    together = client.infer("causal", [tensor("x", piece), carried(np.concatenate(states))], model_version="1")

    for row, state in enumerate(states):
        alone = client.infer("causal", [tensor("x", piece[row : row + 1]), carried(state)], model_version="1")
        np.testing.assert_allclose(together.as_numpy("last")[row], alone.as_numpy("last")[0], rtol=1e-5, atol=1e-6)
        assert together.as_numpy("state")[row, :16].tobytes() == state[0, :16].tobytes()


def test_the_state_of_another_version_is_a_failed_precondition(replicas: list[triton.InferenceServerClient]) -> None:
    x = sequence(np.random.default_rng(4), 1, 3)
    old = replicas[0].infer("causal", [tensor("x", x)], model_version="1").as_numpy("state")

    with pytest.raises(InferenceServerException, match="begin the stream again without it") as refused:
        replicas[1].infer("causal", [tensor("x", x), carried(old)])  # version 2 is the newest
    assert refused.value.status() == "StatusCode.FAILED_PRECONDITION"


def test_a_state_that_was_tampered_with_is_refused(replicas: list[triton.InferenceServerClient]) -> None:
    x = sequence(np.random.default_rng(5), 1, 3)
    state = replicas[0].infer("causal", [tensor("x", x)]).as_numpy("state").copy()
    state[0, 16:20] = 255  # a NaN

    with pytest.raises(InferenceServerException, match="values that are not finite") as refused:
        replicas[0].infer("causal", [tensor("x", x), carried(state)])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_metadata_offers_the_state_but_asks_for_none(replicas: list[triton.InferenceServerClient]) -> None:
    metadata = replicas[0].get_model_metadata("causal", as_json=True)

    assert metadata["outputs"][-1] == {"name": "state", "datatype": "UINT8", "shape": ["-1", str(16 + 4 * 64)]}
    assert [given["name"] for given in metadata["inputs"]] == ["x"]
