"""Layers that torch lacks and that the exporter knows: use them inside a model of your own, and train it as usual."""

from export.modules.conv_lstm import ConvLSTM
from export.modules.peephole_lstm import PeepholeLSTM

__all__ = ["ConvLSTM", "PeepholeLSTM"]
