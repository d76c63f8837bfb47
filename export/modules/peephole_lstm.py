"""LSTM whose gates look at the cell state, which torch has no layer for."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


class PeepholeLSTM(nn.Module):
    """`nn.LSTM` with peephole weights; same arguments, results, parameter names and initialisation.

    The input and forget gates see the cell state of the step before, the output gate that of the step itself, each unit
    its own: i = sigmoid(W_i x + R_i h + b_i + p_i * c), o = sigmoid(W_o x + R_o h + b_o + p_o * c').
    Source: Gers, Schraudolph and Schmidhuber, "Learning Precise Timing with LSTM Recurrent Networks", JMLR 3 (2002).

    Parameters are `nn.LSTM`'s, and `weight_peephole_l{layer}[_reverse]`, float32[3 * hidden]: those of the input,
    forget and output gates.
    """

    def __init__(  # noqa: PLR0913, PLR0917  nn.LSTM's arguments
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002
        batch_first: bool = False,  # noqa: FBT001, FBT002
        dropout: float = 0.0,
        bidirectional: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        directions = 2 if bidirectional else 1
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            width = input_size if layer == 0 else directions * hidden_size
            sizes: dict[str, tuple[int, ...]] = {
                "weight_ih": (4 * hidden_size, width),
                "weight_hh": (4 * hidden_size, hidden_size),
            }
            if bias:
                sizes |= {"bias_ih": (4 * hidden_size,), "bias_hh": (4 * hidden_size,)}
            sizes |= {"weight_peephole": (3 * hidden_size,)}
            for suffix in self._suffixes(layer):
                for stem, size in sizes.items():
                    weight = torch.empty(size).uniform_(-bound, bound)
                    self.register_parameter(stem + suffix, nn.Parameter(weight))

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002  torch's name, which callers may use
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Return the outputs, and h_n and c_n float32[layers * directions, batch, hidden] of each row's last real step.

        Args:
            input: float32[time, batch, features], batch and time swapped with `batch_first`, or a packed sequence.
            hx: h_0 and c_0 of the same shapes as h_n and c_n; zeros if missing.
        """
        if isinstance(input, PackedSequence):
            steps, lengths = pad_packed_sequence(input)
            outputs, final = self._run(steps, lengths, hx)
            return pack_padded_sequence(outputs, lengths, enforce_sorted=False), final
        steps = input.transpose(0, 1) if self.batch_first else input
        outputs, final = self._run(steps, torch.full((steps.shape[1],), steps.shape[0]), hx)
        return (outputs.transpose(0, 1) if self.batch_first else outputs), final

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def _run(
        self, steps: Tensor, lengths: Tensor, hx: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run all layers over float32[time, batch, features]; rows end at their lengths, int64[batch] (steps)."""
        real = (torch.arange(len(steps))[:, None] < lengths).unsqueeze(-1).to(steps.device)
        final: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._suffixes(layer):
                zeros = steps.new_zeros(steps.shape[1], self.hidden_size)
                start = (zeros, zeros) if hx is None else (hx[0][len(final)], hx[1][len(final)])
                output, state = self._direction(steps, real, start, suffix)
                outputs.append(output)
                final.append(state)
            steps = torch.cat(outputs, dim=-1)
            if layer + 1 < self.num_layers:
                steps = nn.functional.dropout(steps, self.dropout, self.training)
        return steps, (torch.stack([h for h, _ in final]), torch.stack([c for _, c in final]))

    def _direction(
        self, steps: Tensor, real: Tensor, start: tuple[Tensor, Tensor], suffix: str
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weight_ih, weight_hh = self.get_parameter("weight_ih" + suffix), self.get_parameter("weight_hh" + suffix)
        bias = None
        if self.bias:
            bias = self.get_parameter("bias_ih" + suffix) + self.get_parameter("bias_hh" + suffix)
        p_i, p_f, p_o = self.get_parameter("weight_peephole" + suffix).chunk(3)
        products = nn.functional.linear(steps, weight_ih, bias)
        h, c = start
        outputs: list[Tensor] = [h] * len(steps)
        order = range(len(steps))
        for t in reversed(order) if suffix.endswith("_reverse") else order:
            i, f, g, o = (products[t] + nn.functional.linear(h, weight_hh)).chunk(4, dim=-1)
            cell = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
            hidden = torch.sigmoid(o + p_o * cell) * torch.tanh(cell)
            h, c = torch.where(real[t], hidden, h), torch.where(real[t], cell, c)
            outputs[t] = torch.where(real[t], hidden, 0.0)
        return torch.stack(outputs), (h, c)
