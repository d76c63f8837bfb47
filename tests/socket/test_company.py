"""Company never matters: an answer is the one the request gets alone, whatever it was batched with."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import Scrape, infer_together, read_metric, sequence, tensor
from training.local_server import LocalServer

ROUNDS = 200
TOLERANCE = 1e-5
"""Largest difference of FP32 answers relative to the outputs' scale (the design's first invariant)."""


def largest_difference(server: LocalServer, model: str, version: str, pool: list[np.ndarray]) -> float:
    """Send 200 random groups of requests at once, compare each answer with the solo one, and return the worst.

    The difference is relative to the largest value of the solo answer. That requests really shared batches is asserted.
    """
    rng = np.random.default_rng(11)
    labels = {"model": model, "version": version}
    worst = 0.0
    with triton.InferenceServerClient(server.address) as client:
        alone = [client.infer(model, [tensor("x", x)], model_version=version) for x in pool]
        names = [output.name for output in alone[0].get_response().outputs]
        calls_before = read_metric(server, "lstm_engine_run_seconds_count", **labels)
        requests = 0
        for _ in range(ROUNDS):
            chosen = rng.integers(0, len(pool), rng.integers(2, 9))
            requests += len(chosen)
            answers = infer_together(client, model, [pool[n] for n in chosen], model_version=version)
            for number, answer in zip(chosen, answers, strict=True):
                for name in names:
                    expected = alone[number].as_numpy(name)
                    got = answer.as_numpy(name)
                    assert got.shape == expected.shape
                    worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    calls = read_metric(server, "lstm_engine_run_seconds_count", **labels) - calls_before
    assert calls < requests, "nothing was ever batched, so nothing was tested"
    return worst


@pytest.mark.parametrize(("model", "version"), [("lstm", "2"), ("causal", "1")])
def test_two_hundred_random_mixed_length_batches_answer_as_alone(server: LocalServer, model: str, version: str) -> None:
    rng = np.random.default_rng(10)
    pool = [sequence(rng, int(rng.integers(1, 4)), int(steps)) for steps in rng.integers(1, 60, 64)]

    assert largest_difference(server, model, version, pool) <= TOLERANCE


def test_a_trained_model_answers_real_utterances_in_company_as_alone(
    newcomers_server: LocalServer, workplace: Path
) -> None:
    """The speaker model, trained, exported and fed with held-out recordings of 7 to 29 steps."""
    with np.load(workplace / "demo-output" / "weights" / "speaker-test.npz", allow_pickle=False) as test:
        pool = [x[None, :length] for x, length in zip(test["x"][:64], test["lengths"], strict=False)]

    assert len({x.shape[1] for x in pool}) > 5, "the lengths are mixed"
    assert largest_difference(newcomers_server, "my-speaker", "1", pool) <= TOLERANCE


def test_a_model_marked_equal_lengths_never_mixes_lengths(client: triton.InferenceServerClient, scrape: Scrape) -> None:
    """Every engine call of such a model has a padding efficiency of one."""
    rng = np.random.default_rng(12)
    for _ in range(20):
        infer_together(client, "alike", [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 4, 8)])

    calls = scrape("lstm_padding_efficiency_ratio_count", model="alike")
    assert calls > 0
    assert scrape("lstm_padding_efficiency_ratio_sum", model="alike") == calls
