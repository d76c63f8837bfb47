"""Text of a CTC model and bounds of its indices, over a real socket: as good as decoding the log-probabilities oneself."""

import itertools
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from tests.socket.test_overload import until
from tests.support.artefacts import BLANK, FEATURES, SYMBOLS, write_ctc, write_two_inputs
from training.local_server import LocalServer

VOCABULARY = 50
EVERY_PREFIX = 341
"""Texts of up to four of four symbols: a beam that holds them all is exact over four steps."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    root = tmp_path_factory.mktemp("model repository")
    write_ctc(root, beam_width=EVERY_PREFIX)
    write_two_inputs(root, "bounded", vocabulary=VOCABULARY)
    with LocalServer(root) as running:
        yield running
    assert running.process.returncode == 0, "".join(running.log)


def best_path(log_probs: NDArray[np.float32]) -> str:
    """Decode float32[steps, classes] by the definition: the argmax, repeats merged, blanks left out."""
    return "".join(SYMBOLS[label] for label, _ in itertools.groupby(log_probs.argmax(axis=1)) if label != BLANK)


def likeliest_text(log_probs: NDArray[np.float32]) -> str:
    """Decode float32[steps, classes] by the definition: the text whose alignments have the largest sum."""
    steps, classes = log_probs.shape
    sums: dict[str, float] = {}
    for alignment in itertools.product(range(classes), repeat=steps):
        text = "".join(SYMBOLS[label] for label, _ in itertools.groupby(alignment) if label != BLANK)
        sums[text] = sums.get(text, 0.0) + float(np.exp(log_probs[range(steps), alignment].sum(dtype=np.float64)))
    return max(sums, key=sums.__getitem__)


def read_text(answer: triton.InferResult, name: str) -> list[str]:
    return [element.decode() for element in answer.as_numpy(name)]


def test_model_metadata_lists_text_as_bytes_one_per_row(client: triton.InferenceServerClient) -> None:
    assert client.get_model_metadata("ctc", as_json=True)["outputs"] == [
        {"name": "log_probs", "datatype": "FP32", "shape": ["-1", "-1", str(len(SYMBOLS))]},
        {"name": "text", "datatype": "BYTES", "shape": ["-1"]},
        {"name": "text_beam", "datatype": "BYTES", "shape": ["-1"]},
    ]


def test_text_is_what_the_returned_log_probabilities_say_for_each_row_and_its_length(
    client: triton.InferenceServerClient,
) -> None:
    rng = np.random.default_rng(1)
    lengths = np.array([4, 1, 3, 4, 4, 2])

    answer = client.infer("ctc", [tensor("x", 3 * sequence(rng, 6, 4)), tensor("lengths", lengths)])

    log_probs = answer.as_numpy("log_probs")
    rows = [row[:length] for row, length in zip(log_probs, lengths, strict=True)]
    assert read_text(answer, "text") == [best_path(row) for row in rows]
    assert read_text(answer, "text_beam") == [likeliest_text(row) for row in rows]
    assert len(set(read_text(answer, "text_beam"))) > 2, "rows that all say the same would prove little"
    assert answer.as_numpy("text").shape == (6,)


def test_greedy_and_beam_can_differ(client: triton.InferenceServerClient) -> None:
    """Over 200 short rows the two methods disagree somewhere, so the beam is not greedy under another name."""
    answer = client.infer("ctc", [tensor("x", sequence(np.random.default_rng(2), 200, 4))])

    assert read_text(answer, "text") != read_text(answer, "text_beam")


def test_only_the_outputs_that_were_asked_for_come(client: triton.InferenceServerClient) -> None:
    x = sequence(np.random.default_rng(3), 2, 6)
    everything = client.infer("ctc", [tensor("x", x)])

    for names in (["text"], ["text_beam", "log_probs"], ["log_probs"]):
        answer = client.infer("ctc", [tensor("x", x)], outputs=[triton.InferRequestedOutput(name) for name in names])
        assert [output.name for output in answer.get_response().outputs] == names
        for name in names:
            np.testing.assert_array_equal(answer.as_numpy(name), everything.as_numpy(name))


def test_text_in_company_is_the_text_alone(client: triton.InferenceServerClient) -> None:
    rng = np.random.default_rng(4)
    inputs = [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 40, 24)]
    alone = [client.infer("ctc", [tensor("x", x)]) for x in inputs]

    for got, expected in zip(infer_together(client, "ctc", inputs), alone, strict=True):
        assert isinstance(got, triton.InferResult)
        for name in ("text", "text_beam"):
            assert read_text(got, name) == read_text(expected, name)


def test_a_search_ends_with_the_patience_of_its_client_and_the_next_one_starts(
    client: triton.InferenceServerClient, server: LocalServer
) -> None:
    """Eight rows of 4096 steps with so wide a beam would take minutes, and searches take turns."""
    calls = read_metric(server, "lstm_engine_run_seconds_count", model="ctc")
    long = sequence(np.random.default_rng(6), 8, 4096)

    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        client.infer("ctc", [tensor("x", long)], client_timeout=3.0)

    assert read_metric(server, "lstm_engine_run_seconds_count", model="ctc") == calls + 1, "the model had answered"
    assert client.infer("ctc", [tensor("x", long[:1, :3])], client_timeout=60.0).as_numpy("text_beam").shape == (1,)
    until(lambda: read_metric(server, "lstm_requests_total", model="ctc", outcome="deadline") == 1)


@pytest.mark.parametrize("value", [-1, VOCABULARY])
def test_an_index_outside_the_table_is_refused_and_the_server_goes_on(
    client: triton.InferenceServerClient, value: int
) -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, VOCABULARY, (2, 3))
    tokens[:, :2] = [0, VOCABULARY - 1]
    others = [tensor("x", sequence(rng, 2, 3)), tensor("bias", np.zeros((2, FEATURES), np.float32))]
    bad = tokens.copy()
    bad[1, 2] = value

    good = client.infer("bounded", [tensor("tokens", tokens), *others]).as_numpy("y")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("bounded", [tensor("tokens", bad), *others])

    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert f"'tokens' holds {value} at [1, 2]; expected 0 to {VOCABULARY - 1}" in caught.value.message()
    np.testing.assert_array_equal(client.infer("bounded", [tensor("tokens", tokens), *others]).as_numpy("y"), good)


def test_metadata_says_how_large_the_table_is(server: LocalServer) -> None:
    """`properties` is of the public protocol, field 6; tritonclient's own stubs leave it out."""
    with grpc.insecure_channel(server.address) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            service_pb2.ModelMetadataRequest(name="bounded")
        )

    assert b"vocabulary.tokens\x12\x02%d" % VOCABULARY in answer.SerializeToString()
