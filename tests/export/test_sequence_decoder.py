"""Encoder-decoder models in one graph: greedy and beam search, against PyTorch and against searches written out."""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.modules import BeamDecoder, GreedyDecoder, SequenceDecoder
from export.pytorch.loading import load_model
from export.pytorch.reference import Reference
from export.runtime import Runtime
from export.spec import ExportSpec, parse_input
from tests.export.family_models import WORDS, Translator
from tests.export.support import exported, rows_of

START, END, LIMIT = 0, WORDS - 1, 6
DECODERS = {
    "greedy": partial(GreedyDecoder, start=START, end=END, limit=LIMIT),
    "beam": partial(BeamDecoder, start=START, end=END, limit=LIMIT, width=3),
}


def translator() -> Translator:
    """Return a seeded model with strong opinions, so that answers differ and end at different places."""
    torch.manual_seed(3)
    model = Translator()
    for weight in model.parameters():
        nn.init.uniform_(weight, -1.5, 1.5)
    model.eval().requires_grad_(requires_grad=False)
    model.score.bias[END] += 2
    return model


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> tuple[Runtime, Reference]:
    return exported(lambda: DECODERS[request.param](translator()), ["source:int64[batch,time]"])


def test_one_request_gives_one_sequence_from_a_loop_in_the_graph(decoder: tuple[Runtime, Reference]) -> None:
    runtime, _ = decoder

    assert [(tensor.name, tensor.shape) for tensor in runtime.model.outputs] == [
        ("tokens", ("batch", LIMIT)),
        ("token_lengths", ("batch",)),
        ("score", ("batch",)),
    ]
    assert "Loop" in {node.op_type for node in onnx.load_from_string(runtime.model.content).graph.node}


@pytest.mark.parametrize("lengths", [(1,), (4, 9, 1, 6), tuple(range(1, 34))])
def test_rows_of_a_mixed_batch_get_pytorch_s_sequences(
    decoder: tuple[Runtime, Reference], lengths: tuple[int, ...]
) -> None:
    """Rows that end early stay as they are while the others go on."""
    runtime, reference = decoder
    rows = rows_of(runtime, lengths)

    for answer, expected in zip(runtime.answer(rows, dirty=True), reference.answers(rows), strict=True):
        np.testing.assert_array_equal(answer["tokens"], expected["tokens"])
        np.testing.assert_array_equal(answer["token_lengths"], expected["token_lengths"])
        np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-5)


def test_the_test_rows_end_at_different_places() -> None:
    lengths = {int(_decode(DECODERS["greedy"](translator()), seed)["token_lengths"]) for seed in range(40)}

    assert LIMIT in lengths
    assert len(lengths) > 3


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_best_token_at_each_step(seed: int) -> None:
    model = translator()
    tokens: list[int] = []
    total = 0.0
    while len(tokens) < LIMIT and (not tokens or tokens[-1] != END):
        scores = _scores(model, seed, tokens)
        tokens.append(int(scores.argmax()))
        total += float(scores.max())

    answer = _decode(DECODERS["greedy"](model), seed)

    assert answer["tokens"][0].tolist() == tokens + [END] * (LIMIT - len(tokens))
    assert float(answer["score"]) == pytest.approx(total, rel=1e-5)
    assert int(answer["token_lengths"]) == len([token for token in tokens if token != END])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_the_choice_finds_the_best_of_all_sequences(seed: int, penalty: float) -> None:
    model, limit = translator(), 2
    best = max(
        (
            (sum(float(_scores(model, seed, tokens[:i])[token]) for i, token in enumerate(tokens)))
            / ((5 + len(tokens)) / 6) ** penalty,
            tokens,
        )
        for tokens in _sequences(limit)
    )
    beam = BeamDecoder(model, start=START, end=END, limit=limit, width=WORDS, length_penalty=penalty)

    answer = _decode(beam, seed)

    assert answer["tokens"][0].tolist() == best[1] + [END] * (limit - len(best[1]))
    assert float(answer["score"]) == pytest.approx(best[0], rel=1e-5)


def test_the_weights_given_are_those_of_the_model_inside(tmp_path: Path) -> None:
    torch.save(translator().state_dict(), tmp_path / "w.pt")
    spec = ExportSpec(
        factory="tests.export.test_sequence_decoder:untrained",
        weights=tmp_path / "w.pt",
        name="m",
        inputs=(parse_input("source:int64[batch,time]"),),
    )

    loaded = load_model(spec)

    assert isinstance(loaded, GreedyDecoder)
    assert torch.equal(loaded.model.get_parameter("words.weight"), translator().words.weight)


def untrained() -> nn.Module:
    return DECODERS["greedy"](Translator())


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"width": 0}, {"width": WORDS + 1}])
def test_impossible_searches_are_refused(wrong: dict[str, int]) -> None:
    arguments = {"start": START, "end": END, "limit": LIMIT} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        _decode(BeamDecoder(translator(), **arguments), 0)


def _source(seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, WORDS, (1, 5)))


def _decode(decoder: SequenceDecoder, seed: int) -> dict[str, Tensor]:
    with torch.no_grad():
        return decoder(_source(seed), torch.tensor([5]))


def _scores(model: Translator, seed: int, tokens: list[int]) -> Tensor:
    """Return the log-probabilities of the token after these."""
    with torch.no_grad():
        memory, state = model.encode(_source(seed), torch.tensor([5]))
        for token in [START, *tokens]:
            logits, state = model.step(torch.tensor([token]), state, memory, torch.ones(1, 5, dtype=torch.bool))
    return logits[0].log_softmax(-1)


def _sequences(limit: int) -> list[list[int]]:
    """Return all sequences of at most `limit` tokens that end, or fill it."""
    words = [token for token in range(WORDS) if token != END]
    ended = [[*body, END] for length in range(limit) for body in product(words, repeat=length)]
    return ended + [list(body) for body in product(words, repeat=limit)]
