"""Encoder-decoder models that answer one sequence with another: greedy and beam search inside the graph.

The factory that is exported wraps the trained model in one of these. The loop over output steps becomes an ONNX Loop,
so one request gives one whole answer and the server needs no loop of its own.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop  # its only home; torch.onnx makes an ONNX Loop of it

Tensors = tuple[Tensor, ...]
IMPOSSIBLE = -torch.inf


class EncoderDecoder(Protocol):
    """What a model must offer to be decoded; an `nn.Module` with these two methods."""

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensors, Tensors]:
        """Return what the decoder looks at, and the state that it starts from.

        Args:
            source: dtype[batch, time, ...].
            lengths: int64[batch], real steps of each row.

        Returns:
            Tensors dtype[batch, ...] that stay as they are, and tensors dtype[batch, ...] that `step` renews.
        """
        ...

    def step(self, tokens: Tensor, state: Tensors, memory: Tensors, real: Tensor) -> tuple[Tensor, Tensors]:
        """Return the scores of the next token, float32[rows, vocabulary] before softmax, and the state after this step.

        Args:
            tokens: int64[rows], the tokens before it.
            state: as `encode` or the last step gave it.
            memory: as `encode` gave it.
            real: bool[rows, time], which steps of the source are no padding; attention must mask the others.
        """
        ...


class SequenceDecoder(nn.Module):
    """Common part of greedy and beam search. `lstm-export` fills the model inside from the model's own state dict.

    `forward(source, lengths)` returns `tokens`, int64[batch, limit], without the start token and filled with `end`;
    `token_lengths`, int64[batch], tokens before the first `end`; `score`, float32[batch], see the subclasses.
    """

    def __init__(self, model: nn.Module, *, start: int, end: int, limit: int) -> None:
        """Wrap a model that offers what `EncoderDecoder` says.

        Args:
            model: with the weights that were trained.
            start: token that goes before the first one.
            end: token that ends a sequence.
            limit: longest answer (tokens); at least 1.
        """
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit is {limit}: an answer has at least one token")
        self.model, self.start, self.end, self.limit = model, start, end, limit

    def forward(self, source: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return tokens, their number and their score for each row of the source, dtype[batch, time, ...]."""
        real = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        memory, state = self._inner.encode(source, lengths)
        tokens, score = self._search(memory, tuple(_plain(part) for part in state), real)
        return {"tokens": tokens, "token_lengths": (tokens != self.end).sum(1), "score": score}

    @property
    def _inner(self) -> EncoderDecoder:
        return cast("EncoderDecoder", self.model)

    @abstractmethod
    def _search(self, memory: Tensors, state: Tensors, real: Tensor) -> Tensors:
        """Return tokens int64[batch, limit] and scores float32[batch]."""

    def _written(self, sequences: Tensor, position: Tensor, tokens: Tensor) -> Tensor:
        """Return dtype[..., limit] with the tokens, dtype[...], at one position."""
        here = torch.arange(self.limit, device=tokens.device) == position
        return torch.where(here, tokens[..., None], sequences)


class GreedyDecoder(SequenceDecoder):
    """Takes the most probable token at each step; `score` is the sum of their log-probabilities, `end` included."""

    def _search(self, memory: Tensors, state: Tensors, real: Tensor) -> Tensors:
        def running(position: Tensor, last: Tensor, done: Tensor, *_: Tensor) -> Tensor:
            del last
            return (position < self.limit) & ~done.all()

        def body(
            position: Tensor, last: Tensor, done: Tensor, tokens: Tensor, score: Tensor, *state: Tensor
        ) -> Tensors:
            logits, state = self._inner.step(last, state, memory, real)
            value, token = logits.log_softmax(-1).max(-1)
            token = torch.where(done, self.end, token)
            score = torch.where(done, score, score + value)
            tokens = self._written(tokens, position, token)
            return position + 1, token, done | (token == self.end), tokens, score, *state

        rows = real.shape[0]
        last = real.new_full((rows,), self.start, dtype=torch.int64)
        done = real.new_zeros((rows,))
        tokens = real.new_full((rows, self.limit), self.end, dtype=torch.int64)
        score = real.new_zeros((rows,), dtype=torch.float32)
        _, _, _, tokens, score, *_ = _loop(running, body, (_position(real), last, done, tokens, score, *state))
        return tokens, score


class BeamDecoder(SequenceDecoder):
    """Keeps the `width` most probable beginnings at each step.

    `score` is the log-probability of the answer over ((5 + its tokens) / 6) ** length_penalty, `end` included; 0 turns
    that off. Source: Wu et al., "Google's Neural Machine Translation System", 2016 (arXiv 1609.08144), section 7.
    """

    def __init__(  # noqa: PLR0913  what defines a beam search
        self, model: nn.Module, *, start: int, end: int, limit: int, width: int = 4, length_penalty: float = 0.6
    ) -> None:
        super().__init__(model, start=start, end=end, limit=limit)
        if width < 1:
            raise ValueError(f"width is {width}: beam search keeps at least one beginning")
        self.width, self.length_penalty = width, length_penalty

    def _search(self, memory: Tensors, state: Tensors, real: Tensor) -> Tensors:
        width = self.width
        memory = tuple(part.repeat_interleave(width, dim=0) for part in memory)
        state = tuple(_plain(part.repeat_interleave(width, dim=0)) for part in state)
        steps = real.repeat_interleave(width, dim=0)

        def running(position: Tensor, last: Tensor, done: Tensor, *_: Tensor) -> Tensor:
            del last
            return (position < self.limit) & ~done.all()

        def body(
            position: Tensor, last: Tensor, done: Tensor, tokens: Tensor, score: Tensor, *state: Tensor
        ) -> Tensors:
            logits, state = self._inner.step(last.flatten(), state, memory, steps)
            score, beam, token = self._best(logits.log_softmax(-1), score, done)
            tokens = tokens.gather(1, beam[..., None].expand(-1, -1, self.limit))
            done = done.gather(1, beam) | (token == self.end)
            rows = (torch.arange(beam.shape[0], device=beam.device)[:, None] * width + beam).flatten()
            state = tuple(part.index_select(0, rows) for part in state)
            return position + 1, token, done, self._written(tokens, position, token), score, *state

        shape = (real.shape[0], width)
        last = real.new_full(shape, self.start, dtype=torch.int64)
        tokens = real.new_full((*shape, self.limit), self.end, dtype=torch.int64)
        first = torch.arange(width, device=real.device) == 0  # all beams are one beam before the first step
        score = _plain(torch.where(first, 0.0, IMPOSSIBLE).expand(shape))
        carry = (_position(real), last, real.new_zeros(shape), tokens, score, *state)
        _, _, done, tokens, score, *_ = _loop(running, body, carry)
        return self._choose(tokens, done, score)

    def _best(self, probabilities: Tensor, score: Tensor, done: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, beams that they go on from and tokens, each dtype[batch, width], best first."""
        vocabulary = probabilities.shape[-1]
        if vocabulary < self.width:
            raise ValueError(f"width is {self.width}, more than the vocabulary of {vocabulary} tokens")
        only_end = torch.where(torch.arange(vocabulary, device=score.device) == self.end, 0.0, IMPOSSIBLE)
        nexts = torch.where(done[..., None], only_end, torch.unflatten(probabilities, 0, (-1, self.width)))
        score, choice = (score[..., None] + nexts).flatten(1).topk(self.width, dim=1)
        return score, choice // vocabulary, choice % vocabulary

    def _choose(self, tokens: Tensor, done: Tensor, score: Tensor) -> Tensors:
        lengths = (tokens != self.end).sum(-1) + done.long()
        score = score / ((5.0 + lengths.float()) / 6.0) ** self.length_penalty
        score, best = score.max(1)
        chosen = tokens.gather(1, best[:, None, None].expand(-1, -1, self.limit))
        return chosen.squeeze(1), score


def _loop(running: Callable[..., Tensor], body: Callable[..., Tensors], carry: Tensors) -> Tensors:
    """Run the body while it is to run: as one operator in an export, as Python's own loop elsewhere."""
    if torch.compiler.is_exporting():
        results: Tensors = while_loop(running, body, carry)  # type: ignore[no-untyped-call]
        return results
    while running(*carry):
        carry = body(*carry)
    return carry


def _position(like: Tensor) -> Tensor:
    return like.new_zeros((), dtype=torch.int64)


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy whose memory lies in order; while_loop compares the strides of what goes in and comes out."""
    return tensor.clone(memory_format=torch.contiguous_format)
