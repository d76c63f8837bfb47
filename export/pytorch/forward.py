"""One call of the user's own forward, outside of a trace."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def call_forward(model: nn.Module, arguments: Mapping[str, Tensor]) -> object:
    """Return what `forward` gives, without gradients, and without torch's note that projections are not in oneDNN."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        return model(**arguments)
