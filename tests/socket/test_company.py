"""Company never matters: an answer is the one the request gets alone, whatever it was batched with."""

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import Scrape, infer_together, sequence, tensor

ROUNDS = 200
TOLERANCE = 1e-5
"""Largest difference of FP32 answers relative to the outputs' scale (the design's first invariant)."""


@pytest.mark.parametrize("model", ["lstm", "causal"])
def test_two_hundred_random_mixed_length_batches_answer_as_alone(
    client: triton.InferenceServerClient, scrape: Scrape, model: str
) -> None:
    rng = np.random.default_rng(11)
    pool = [sequence(rng, int(rng.integers(1, 4)), int(steps)) for steps in rng.integers(1, 60, 64)]
    alone = [client.infer(model, [tensor("x", x)]) for x in pool]
    calls_before = scrape("lstm_engine_run_seconds_count", model=model)
    rows_before = scrape("lstm_batch_rows_sum", model=model)
    requests = 0
    worst = dict.fromkeys(("steps", "last"), 0.0)
    for _ in range(ROUNDS):
        chosen = rng.integers(0, len(pool), rng.integers(2, 9))
        requests += len(chosen)
        for number, answer in zip(chosen, infer_together(client, model, [pool[n] for n in chosen]), strict=True):
            for name in worst:
                expected = alone[number].as_numpy(name)
                got = answer.as_numpy(name)
                assert got.shape == expected.shape
                worst[name] = max(worst[name], float(np.abs(got - expected).max() / np.abs(expected).max()))

    assert max(worst.values()) <= TOLERANCE, worst
    calls = scrape("lstm_engine_run_seconds_count", model=model) - calls_before
    assert calls < requests, "nothing was ever batched, so nothing was tested"
    assert scrape("lstm_batch_rows_sum", model=model) - rows_before > requests


def test_a_model_marked_equal_lengths_never_mixes_lengths(client: triton.InferenceServerClient, scrape: Scrape) -> None:
    """Every engine call of such a model has a padding efficiency of one."""
    rng = np.random.default_rng(12)
    for _ in range(20):
        infer_together(client, "alike", [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 4, 8)])

    calls = scrape("lstm_padding_efficiency_ratio_count", model="alike")
    assert calls > 0
    assert scrape("lstm_padding_efficiency_ratio_sum", model="alike") == calls
