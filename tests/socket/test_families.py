"""Every family from its PyTorch model through `lstm-export` and `lstm-serve` to a client, against PyTorch."""

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton

from export.pytorch.answers import name_outputs
from export.pytorch.export_torch import export_torch
from export.pytorch.forward import call_forward
from export.pytorch.loading import lengths_parameter, load_model
from export.spec import Ctc, ExportSpec, parse_input
from serving.decoding.ctc import Alphabet, beam_search, greedy
from serving.manifest import read_manifest
from tests.export import family_models
from tests.export.family_models import FEATURES, IMAGE, WORDS
from tests.export.support import quiet_job
from tests.socket.conftest import tensor
from training.local_server import LocalServer

LENGTHS = (4, 9, 1, 6, 2, 9, 30)
X = f"x:float32[batch,time,{FEATURES}]"
IMAGES = f"x:float32[batch,time,{','.join(map(str, IMAGE))}]"
SYMBOLS = ("<blank>", "a", "b", " ", "c", "d")
TEXTS = {"text", "text_beam"}
STEPWISE = ("AllCausal", "CausalWeather", "ResidualStack")
FAMILIES = {
    "AllCausal": X,
    "CausalWeather": IMAGES,
    "ResidualStack": X,
    "Acoustic": X,
    "Tagger": "tokens:int64[batch,time]",
    "AttentionClassifier": X,
    "MaskedAttentionClassifier": X,
    "greedy_translator": "source:int64[batch,time]",
    "beam_translator": "source:int64[batch,time]",
}


def spec_of(family: str, folder: Path) -> ExportSpec:
    return ExportSpec(
        factory=f"tests.export.family_models:{family}",
        weights=folder / f"{family}.pt",
        name=family,
        inputs=(parse_input(FAMILIES[family]),),
        ctc=Ctc(output="log_probs", symbols=folder / "symbols.txt") if family == "Acoustic" else None,
    )


@dataclass(frozen=True)
class Served:
    folder: Path
    address: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("families")
    (folder / "symbols.txt").write_text("\n".join(SYMBOLS) + "\n")
    job, _ = quiet_job()
    for family in FAMILIES:
        spec = spec_of(family, folder)
        torch.manual_seed(1)
        model = load_untrained(spec)
        torch.save(model.state_dict(), spec.weights)
        export_torch(spec, folder / "models", job)
    with LocalServer(folder / "models") as server:
        yield Served(folder, server.address)


def load_untrained(spec: ExportSpec) -> torch.nn.Module:
    model = getattr(family_models, spec.factory.partition(":")[2])()
    return getattr(model, "model", model)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_clients_at_once_get_what_pytorch_says_to_each_alone(served: Served, family: str) -> None:
    """Requests of mixed lengths are sent together, so that they share batches where the family allows it."""
    spec = spec_of(family, served.folder)
    model = load_model(spec)
    requests = [request_of(spec, steps, seed) for seed, steps in enumerate(LENGTHS * 3)]

    answers = infer_together(served.address, spec, requests)

    for request, answer in zip(requests, answers, strict=True):
        expected = expected_of(model, spec, request)
        assert {output.name for output in answer.get_response().outputs} - TEXTS - {"state"} == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(answer.as_numpy(name), array, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_ctc_model_answers_text_beside_its_log_probabilities(served: Served) -> None:
    """Best path and beam search of the very log-probabilities in the answer, from symbols in a file."""
    spec = spec_of("Acoustic", served.folder)
    alphabet = Alphabet(SYMBOLS, 0)
    requests = [request_of(spec, steps, seed) * 5 for seed, steps in enumerate(LENGTHS)]
    answers = infer_together(served.address, spec, requests)

    for request, answer in zip(requests, answers, strict=True):
        log_probs, lengths = answer.as_numpy("log_probs"), np.array([request.shape[1]])
        searched = beam_search(log_probs, lengths, alphabet, width=16, checkpoint=lambda: None)
        assert [text.decode() for text in answer.as_numpy("text")] == greedy(log_probs, lengths, alphabet)
        assert [text.decode() for text in answer.as_numpy("text_beam")] == searched
    assert len({answer.as_numpy("text_beam").tobytes() for answer in answers}) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_causal_families_are_stepwise_and_all_share_batches(served: Served, family: str) -> None:
    manifest = read_manifest(served.folder / "models" / family / "1")

    assert not manifest.equal_lengths
    assert manifest.stepwise == (family in STEPWISE)
    assert all(proof.passed for proof in manifest.proofs)


def request_of(spec: ExportSpec, steps: int, seed: int) -> np.ndarray:
    described = spec.inputs[0].tensor
    rng = np.random.default_rng(seed)
    shape = [1 if axis == "batch" else steps if axis == "time" else axis for axis in described.shape]
    values = rng.normal(size=shape) if described.datatype == "FP32" else rng.integers(0, WORDS, shape)
    return values.astype(described.dtype)


def expected_of(model: torch.nn.Module, spec: ExportSpec, request: np.ndarray) -> dict[str, np.ndarray]:
    arguments = {spec.inputs[0].name: torch.from_numpy(request)}
    parameter = lengths_parameter(model, spec)
    if parameter is not None:
        arguments[parameter] = torch.tensor([request.shape[1]])
    return {name: array.numpy() for name, array in name_outputs(call_forward(model, arguments), None).items()}


def infer_together(address: str, spec: ExportSpec, requests: list[np.ndarray]) -> list[triton.InferResult]:
    done: queue.Queue[tuple[int, triton.InferResult, Exception | None]] = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        for number, request in enumerate(requests):
            client.async_infer(
                spec.name,
                [tensor(spec.inputs[0].name, request)],
                callback=lambda result, error, number=number: done.put((number, result, error)),
            )
        outcomes = [done.get(timeout=60) for _ in requests]
    assert not [error for _, _, error in outcomes if error is not None]
    return [result for _, result, _ in sorted(outcomes, key=lambda outcome: outcome[0])]
