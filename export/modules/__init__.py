"""Layers and decoders that torch lacks and the exporter knows: use them in a model of your own, trained as usual."""

from export.modules.conv_lstm import ConvLSTM
from export.modules.peephole_lstm import PeepholeLSTM
from export.modules.sequence_decoder import BeamDecoder, EncoderDecoder, GreedyDecoder, SequenceDecoder

__all__ = ["BeamDecoder", "ConvLSTM", "EncoderDecoder", "GreedyDecoder", "PeepholeLSTM", "SequenceDecoder"]
