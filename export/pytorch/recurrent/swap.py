"""From a model with its layers to a copy that emits ONNX operators."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from export.errors import ExportError
from export.modules import ConvLSTM
from export.pytorch.recurrent.conv_lstm_layer import ConvLstmLayer
from export.pytorch.recurrent.kinds import KINDS
from export.pytorch.recurrent.operator_layer import OperatorLayer
from export.pytorch.recurrent.swapped import Swapped

SWAPPED: tuple[type[nn.Module], ...] = (*KINDS, ConvLSTM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What one run of forward showed of its recurrent layers, by path.

    Attributes:
        zero_starts: of those that forward gives an `hx`, whether it was all zeros each time.
        images: height and width that each ConvLSTM saw.
    """

    zero_starts: dict[str, bool] = field(default_factory=dict)
    images: dict[str, tuple[int, int]] = field(default_factory=dict)


@contextmanager
def observe(model: nn.Module) -> Iterator[Observed]:
    """Watch the recurrent layers while forward runs inside; what they were given is in the result.

    Raises:
        ExportError: as `recurrent_layers`.
    """
    observed = Observed()

    def note(name: str, layer: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        hx = kwargs.get("hx", args[1] if len(args) > 1 else None)
        if hx is not None:
            parts = hx if isinstance(hx, tuple) else (hx,)
            zero = not any(bool(torch.count_nonzero(part)) for part in parts)
            observed.zero_starts[name] = observed.zero_starts.get(name, True) and zero
        if isinstance(layer, ConvLSTM):
            images = args[0] if args else kwargs["input"]
            assert isinstance(images, torch.Tensor)
            observed.images[name] = (images.shape[-2], images.shape[-1])

    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, args, kwargs, name=name: note(name, layer, args, kwargs), with_kwargs=True
        )
        for name, layer in recurrent_layers(model).items()
    ]
    try:
        yield observed
    finally:
        for hook in hooks:
            hook.remove()


def swap_recurrent(model: nn.Module, observed: Observed) -> tuple[nn.Module, Sequence[Swapped]]:
    """Return a copy of the model whose recurrent layers emit ONNX operators, and those layers in the state's order.

    Args:
        model: left as it is.
        observed: what its layers were given.

    Raises:
        ExportError: as `recurrent_layers`.
    """
    model = copy.deepcopy(model)
    swapped: list[OperatorLayer | ConvLstmLayer] = []
    for path, layer in recurrent_layers(model).items():
        swapped.append(_swap(path, layer, observed, offset=sum(other.size for other in swapped)))
        _replace_forward(layer, swapped[-1].__call__)
    return model, swapped


def _replace_forward(layer: nn.Module, forward: Callable[..., Any]) -> None:
    """Let the layer's own forward, or what a subclass of the user's reaches by `super().forward`, be another one."""
    base = next(base for base in SWAPPED if isinstance(layer, base))
    if type(layer).forward is base.forward:
        layer.forward = forward
        return
    below = type(base.__name__, (base,), {"forward": lambda _, *args, **kwargs: forward(*args, **kwargs)})
    layer.__class__ = type(type(layer).__name__, (type(layer), below), {})


def _swap(path: str, layer: nn.Module, observed: Observed, *, offset: int) -> OperatorLayer | ConvLstmLayer:
    name = path or type(layer).__name__.lower()
    zero = observed.zero_starts.get(path, True)
    if not isinstance(layer, ConvLSTM):
        return OperatorLayer(name, layer, offset=offset, starts_at_zero=zero)
    image = observed.images.get(path, (1, 1))
    return ConvLstmLayer(name, layer, offset=offset, starts_at_zero=zero, image=image)


def recurrent_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the recurrent layers that are swapped, by their path in the model; cells are ordinary operators.

    Raises:
        ExportError: one has weights that are not float32.
    """
    layers: dict[str, nn.Module] = {
        path: module for path, module in model.named_modules() if isinstance(module, SWAPPED)
    }
    for path, layer in layers.items():
        if any(weight.dtype != torch.float32 for weight in layer.parameters()):
            raise ExportError(
                f"layer '{path or type(layer).__name__.lower()}' has weights that are not float32; call .float() in "
                "the factory"
            )
    return layers
