"""ConvLSTM as an ONNX Scan over time: one convolution of all inputs, then a small body per step."""

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # its only home; torch.onnx makes an ONNX Scan of it

from export.modules.conv_lstm import ConvLSTM, update
from export.pytorch.recurrent.swapped import Swapped


class ConvLstmLayer(Swapped):
    """A `ConvLSTM` whose rows end at their lengths."""

    def __init__(
        self, name: str, layer: ConvLSTM, *, offset: int, starts_at_zero: bool, image: tuple[int, int]
    ) -> None:
        """Split each convolution into that of the inputs and that of the hidden state.

        Args:
            name: the layer's path in the model.
            layer: whose forward this is to be.
            offset: where the layer's part of the state begins.
            starts_at_zero: as in `Swapped`.
            image: height and width.
        """
        self.layer = layer
        self.part = layer.hidden_channels * image[0] * image[1]
        super().__init__(
            name,
            offset=offset,
            size=2 * layer.num_layers * self.part,
            backwards=False,
            starts_at_zero=starts_at_zero,
        )
        for depth, convolution in enumerate(layer.convolutions):
            assert isinstance(convolution, nn.Conv2d)
            inputs = convolution.in_channels - layer.hidden_channels
            weight = convolution.weight.detach()
            layer.register_buffer(f"onnx_W{depth}", weight[:, :inputs].contiguous())
            layer.register_buffer(f"onnx_R{depth}", weight[:, inputs:].contiguous())
            layer.register_buffer(f"onnx_B{depth}", convolution.bias)

    def __call__(
        self,
        input: Tensor,  # noqa: A002  as torch's recurrent layers name it
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return what the layer returns: outputs, and h_n and c_n of each row's last real step."""
        steps = input.transpose(0, 1) if self.layer.batch_first else input
        starts = self._starts(hx, steps)
        lengths = self._lengths(steps)
        final = []
        for depth in range(self.layer.num_layers):
            steps, state = self._scan(depth, steps, lengths, starts[depth])
            final.append(state)
        self._leave(torch.cat([state[i].flatten(1) for i in range(2) for state in final], dim=1))
        h_n, c_n = (torch.stack([state[i] for state in final]) for i in range(2))
        return (steps.transpose(0, 1) if self.layer.batch_first else steps), (h_n, c_n)

    def _starts(self, hx: tuple[Tensor, Tensor] | None, steps: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return h and c of each layer, float32[batch, hidden, height, width]."""
        shape = (steps.shape[1], self.layer.hidden_channels, *steps.shape[3:])
        depths = range(self.layer.num_layers)
        carried = self._carried(steps, given=hx is not None)
        if carried is not None:
            blocks = [block.reshape(shape) for block in torch.split(carried, self.part, dim=1)]
            return [(blocks[depth], blocks[len(depths) + depth]) for depth in depths]
        if hx is None:
            zeros = steps.new_zeros(shape)
            return [(zeros, zeros)] * len(depths)
        return [(hx[0][depth], hx[1][depth]) for depth in depths]

    def _scan(
        self, depth: int, steps: Tensor, lengths: Tensor | None, start: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run one layer over float32[time, batch, channels, height, width]."""
        layer = self.layer
        padding = layer.kernel_size // 2
        weight: Tensor = getattr(layer, f"onnx_W{depth}")
        recurrent: Tensor = getattr(layer, f"onnx_R{depth}")
        bias: Tensor | None = getattr(layer, f"onnx_B{depth}")
        time, batch = steps.shape[:2]
        products = torch.conv2d(steps.flatten(0, 1), weight, bias, padding=padding)
        products = torch.unflatten(products, 0, (time, batch))
        ends = torch.full((batch,), time) if lengths is None else lengths

        def body(carry: list[Tensor], step: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            (h, c), (product, position) = carry, step
            hidden, cell = update(product + torch.conv2d(h, recurrent, padding=padding), c)
            real = (position < ends)[:, None, None, None]
            return [torch.where(real, hidden, h), torch.where(real, cell, c)], torch.where(real, hidden, 0.0)

        carry = [state.clone(memory_format=torch.contiguous_format) for state in start]  # scan compares strides
        (h, c), outputs = scan(body, carry, [products, torch.arange(time)])
        return outputs, (h, c)
