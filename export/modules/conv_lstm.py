"""LSTM over sequences of images, which torch has no layer for."""

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """Stacked LSTM layers whose products are convolutions, on sequences of images of one size.

    All four gates of a layer are one convolution over its input and its hidden state, with zero padding that keeps the
    image's size and without peepholes.
    Source: Shi et al., "Convolutional LSTM Network", NeurIPS 2015 (arXiv 1506.04214).

    `convolutions[layer]` is an `nn.Conv2d` from `inputs + hidden` channels to `4 * hidden`: gates i, f, g, o.
    """

    def __init__(  # noqa: PLR0913  a recurrent layer's usual arguments
        self,
        input_channels: int,
        hidden_channels: int,
        kernel_size: int = 3,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}: only an odd one keeps the size of the image")
        self.input_channels, self.hidden_channels, self.kernel_size = input_channels, hidden_channels, kernel_size
        self.num_layers, self.batch_first = num_layers, batch_first
        self.convolutions = nn.ModuleList(
            nn.Conv2d(
                (input_channels if layer == 0 else hidden_channels) + hidden_channels,
                4 * hidden_channels,
                kernel_size,
                padding=kernel_size // 2,
                bias=bias,
            )
            for layer in range(num_layers)
        )

    def forward(
        self,
        input: Tensor,  # noqa: A002  as torch's recurrent layers name it
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return float32[time, batch, hidden, height, width], and the last h_n and c_n.

        Those are float32[layers, batch, hidden, height, width].

        Args:
            input: float32[time, batch, channels, height, width]; batch and time swapped with `batch_first`, also in the
                output.
            hx: h_0 and c_0 of the same shapes as h_n and c_n; zeros if missing.
        """
        steps = input.transpose(0, 1) if self.batch_first else input
        zeros = steps.new_zeros(steps.shape[1], self.hidden_channels, *steps.shape[3:])
        final = []
        for layer, convolution in enumerate(self.convolutions):
            h, c = (zeros, zeros) if hx is None else (hx[0][layer], hx[1][layer])
            outputs = []
            for step in steps:
                h, c = update(convolution(torch.cat([step, h], dim=1)), c)
                outputs.append(h)
            final.append((h, c))
            steps = torch.stack(outputs)
        h_n, c_n = (torch.stack([state[i] for state in final]) for i in range(2))
        return (steps.transpose(0, 1) if self.batch_first else steps), (h_n, c_n)


def update(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return h and c after a step from its gates, float32[batch, 4 * hidden, ...] unactivated, and the c before it."""
    i, f, g, o = gates.chunk(4, dim=1)
    cell = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell
