"""The user's model in memory: its factory is imported, called, and filled with weights that fit it exactly."""

import inspect
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from export.callables import import_function
from export.errors import ExportError
from export.modules import SequenceDecoder
from export.spec import LENGTHS, ExportSpec


def load_model(spec: ExportSpec) -> nn.Module:
    """Return the model of `spec` with its weights, on the CPU, in evaluation mode, without gradients.

    Raises:
        ExportError: the factory cannot be imported or called, or the weights cannot be read or do not fit.
    """
    model = _call_factory(spec.factory)
    trained = model.model if isinstance(model, SequenceDecoder) else model
    _fill(trained, _read_weights(spec.weights), spec.weights)
    return model.eval().requires_grad_(requires_grad=False)


def lengths_parameter(model: nn.Module, spec: ExportSpec) -> str | None:
    """Return the name of forward's parameter for the lengths, None if it has none.

    Raises:
        ExportError: `forward` does not take the inputs of `spec`, or needs others.
    """
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    lengths = spec.lengths_argument or (LENGTHS if LENGTHS in parameters else None)
    given = {model_input.name for model_input in spec.inputs} | ({lengths} if lengths else set())
    unknown = sorted(given - parameters.keys()) if not takes_any else []
    needed = {
        name
        for name, p in parameters.items()
        if p.default is inspect.Parameter.empty
        and p.kind not in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    }
    missing = sorted(needed - given)
    if unknown or missing:
        raise ExportError(
            f"forward({', '.join(parameters)}) of {type(model).__name__} and the inputs given do not fit: "
            f"not parameters of it: {unknown}; parameters without an input: {missing}. Inputs are passed by name"
        )
    return lengths


def _call_factory(factory: str) -> nn.Module:
    target = import_function("factory", factory)
    try:
        model = target()
    except Exception as error:
        raise ExportError(
            f"factory '{factory}' failed: {type(error).__name__}: {error}; it is called without arguments and must "
            "return the model"
        ) from error
    if not isinstance(model, nn.Module):
        raise ExportError(f"factory '{factory}' returned a {type(model).__name__}, not a torch.nn.Module")
    return model.cpu()


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise ExportError(f"{path}: not a safetensors file ({error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, UnicodeDecodeError) as error:
        raise ExportError(
            f"{path}: not a state dict. Files that need code to be read (a whole pickled model) are not opened, "
            "because reading them would run that code; write one with torch.save(model.state_dict(), path)"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        held = f"the keys {list(content)[:6]}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ExportError(
            f"{path}: holds {held}, not a plain state dict of tensors; write one with "
            "torch.save(model.state_dict(), path)"
        )
    return dict(content)


def _fill(model: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    shapes = [
        f"{key} is {list(weights[key].shape)} in the file and {list(own[key].shape)} in the model"
        for key in sorted(own.keys() & weights.keys())
        if own[key].shape != weights[key].shape
    ]
    if missing or unexpected or shapes:
        raise ExportError(
            f"{path}: the weights do not fit {type(model).__name__}. Missing keys: {missing}; unexpected keys: "
            f"{unexpected}; different shapes: {shapes}. Give the factory with the sizes that were trained"
        )
    model.load_state_dict(weights)
