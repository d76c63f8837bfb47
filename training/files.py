"""What a recipe leaves on disk, each file written aside and renamed, so that none is ever seen half written."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors.torch
from torch import nn


def write_weights(path: Path, model: nn.Module) -> None:
    """Write the model's state dict as safetensors."""
    content = safetensors.torch.save(model.state_dict())
    _write_aside(path, lambda file: file.write(content))


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as a compressed npz that can be read without unpickling anything."""
    _write_aside(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON; NaN and infinity are refused, because JSON has no such numbers."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _write_aside(path, lambda file: file.write(text.encode()))


def _write_aside(path: Path, write: Callable[[BinaryIO], object]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            write(file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
