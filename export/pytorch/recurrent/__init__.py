"""Recurrent layers that emit ONNX operators themselves, in the place of torch's, during an export.

torch's own lowering leaves the weights as computed tensors, so that quantization passes them over, freezes the time
axis of bidirectional layers and knows no lengths. Source: the operator texts of LSTM, GRU and RNN in the ONNX standard
(opset 14).
"""

from export.pytorch.recurrent.kinds import OPERATORS, projection_notes
from export.pytorch.recurrent.operator_layer import NODE_NAME
from export.pytorch.recurrent.swap import Observed, observe, recurrent_layers, swap_recurrent
from export.pytorch.recurrent.swapped import Run, Swapped, next_state

__all__ = [
    "NODE_NAME",
    "OPERATORS",
    "Observed",
    "Run",
    "Swapped",
    "next_state",
    "observe",
    "projection_notes",
    "recurrent_layers",
    "swap_recurrent",
]
