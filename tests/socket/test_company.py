"""Company never matters: an answer is the one the request gets alone, whatever it was batched with."""

import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import Scrape, infer_together, read_metric, sequence, tensor
from training.local_server import LocalServer

COMPOSITIONS = 1_000
TOLERANCE = 1e-5
"""Largest difference of FP32 answers relative to the outputs' scale (the design's first invariant)."""
TRAINED_COMPOSITIONS = 200


class Crowd:
    """Requests that are in flight at once, each with what it must get alone."""

    def __init__(self, client: triton.InferenceServerClient, model: str, version: str) -> None:
        self.client = client
        self.model = model
        self.version = version
        self.answers: dict[int, np.ndarray] = {}
        self._done: queue.Queue[tuple[int, triton.InferResult | InferenceServerException]] = queue.Queue()

    def send(self, number: int, x: np.ndarray, **options: object) -> Any:
        return self.client.async_infer(
            self.model,
            [tensor("x", x)],
            callback=lambda result, error: self._done.put((number, error or result)),
            model_version=self.version,
            **options,
        )

    def gather(self, count: int) -> dict[int, triton.InferResult | InferenceServerException]:
        return dict(self._done.get(timeout=60) for _ in range(count))


def largest_difference(
    server: LocalServer, model: str, version: str, pool: list[np.ndarray], *, compositions: int
) -> float:
    """Send random groups at once, with bad neighbours, and return the worst difference from the solo answers.

    A group has two to eight good requests, of any lengths and in any order; one in two has a neighbour that is not finite,
    one in two another that leaves at once, one in two a third whose deadline is too short. The difference is relative to
    the largest value of the solo answer. That requests really shared engine calls is asserted.
    """
    rng = np.random.default_rng(11)
    labels = {"model": model, "version": version}
    worst, good, bad = 0.0, 0, 0
    with triton.InferenceServerClient(server.address) as client:
        alone = [client.infer(model, [tensor("x", x)], model_version=version) for x in pool]
        names = [output.name for output in alone[0].get_response().outputs]
        rows_before = read_metric(server, "lstm_batch_rows_sum", **labels)
        calls_before = read_metric(server, "lstm_batch_rows_count", **labels)
        crowd = Crowd(client, model, version)
        for _ in range(compositions):
            chosen = [int(number) for number in rng.integers(0, len(pool), rng.integers(2, 9))]
            members = [("good", number) for number in chosen]
            members += [(kind, int(rng.integers(len(pool)))) for kind in BAD if rng.random() < 0.5]
            rng.shuffle(members)
            for position, (kind, number) in enumerate(members):
                x = pool[int(number)]
                if kind == "not finite":
                    x = x.copy()
                    x[0, -1, 0] = np.nan
                call = crowd.send(position, x, **({"timeout": 1} if kind == "too late" else {}))
                if kind == "leaves":
                    call.cancel()
            outcomes = crowd.gather(len(members))
            for position, (kind, number) in enumerate(members):
                outcome = outcomes[position]
                if kind != "good":
                    bad += 1
                    if kind != "leaves":
                        assert isinstance(outcome, InferenceServerException)
                        assert outcome.status() == f"StatusCode.{BAD[str(kind)]}"
                    continue
                good += 1
                assert isinstance(outcome, triton.InferResult), outcome
                for name in names:
                    expected = alone[int(number)].as_numpy(name)
                    got = outcome.as_numpy(name)
                    assert got.shape == expected.shape
                    worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    rows = read_metric(server, "lstm_batch_rows_sum", **labels) - rows_before
    calls = read_metric(server, "lstm_batch_rows_count", **labels) - calls_before
    assert rows > 1.1 * calls, "next to nothing was batched, so next to nothing was tested"
    assert good > compositions
    assert bad > compositions
    return worst


BAD = {"not finite": "INVALID_ARGUMENT", "leaves": "CANCELLED", "too late": "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize(("model", "version"), [("lstm", "2"), ("causal", "1"), ("paired", "1")])
def test_a_thousand_random_compositions_answer_as_alone(server: LocalServer, model: str, version: str) -> None:
    rng = np.random.default_rng(10)
    pool = [sequence(rng, int(rng.integers(1, 4)), int(steps)) for steps in rng.integers(1, 60, 64)]

    assert largest_difference(server, model, version, pool, compositions=COMPOSITIONS) <= TOLERANCE


def test_a_trained_model_answers_real_utterances_in_company_as_alone(
    newcomers_server: LocalServer, workplace: Path
) -> None:
    """The speaker model, trained, exported and fed with held-out recordings of 7 to 29 steps."""
    with np.load(workplace / "demo-output" / "weights" / "speaker-test.npz", allow_pickle=False) as test:
        pool = [x[None, :length] for x, length in zip(test["x"][:64], test["lengths"], strict=False)]

    assert len({x.shape[1] for x in pool}) > 5, "the lengths are mixed"
    worst = largest_difference(newcomers_server, "my-speaker", "1", pool, compositions=TRAINED_COMPOSITIONS)

    assert worst <= TOLERANCE


def test_a_model_marked_equal_lengths_never_mixes_lengths(client: triton.InferenceServerClient, scrape: Scrape) -> None:
    """Every engine call of such a model has a padding efficiency of one."""
    rng = np.random.default_rng(12)
    for _ in range(20):
        infer_together(client, "alike", [sequence(rng, 1, int(steps)) for steps in rng.integers(1, 4, 8)])

    calls = scrape("lstm_padding_efficiency_ratio_count", model="alike")
    assert calls > 0
    assert scrape("lstm_padding_efficiency_ratio_sum", model="alike") == calls
