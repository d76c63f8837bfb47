"""Exported models as the exporter left them, and what they answer to a data set's rows."""

from pathlib import Path

import numpy as np

from export.model import OnnxModel
from export.runtime import Row, Runtime
from export.smaller.int8_forms import open_native
from serving.manifest import read_manifest
from training.datasets import FloatArray, Part


def open_version(directory: Path) -> Runtime:
    """Return the form of the version in this folder that it prefers, loaded, on one thread.

    Raises:
        ArtifactError: the folder holds no intact version.
    """
    directory = directory.resolve()
    manifest = read_manifest(directory)
    model = OnnxModel(
        content=(directory / manifest.file.name).read_bytes(),
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        state=manifest.state,
        recurrent_nodes=(),
    )
    prefers_native = manifest.int8 is not None and manifest.int8.engine == "native"
    native = open_native(directory, manifest, model) if prefers_native else None
    return native or Runtime(model)


def rows_of(part: Part) -> list[Row]:
    """Return the part's rows without padding, as a model with the one input `x` takes them."""
    return [
        Row(inputs={"x": x[:steps]}, steps=int(steps)) for x, steps in zip(part.x, part.lengths.tolist(), strict=True)
    ]


def median_row(rows: list[Row]) -> Row:
    """Return the row of median length."""
    return sorted(rows, key=lambda row: row.steps)[len(rows) // 2]


def predict(runtime: Runtime, rows: list[Row]) -> FloatArray:
    """Return the only output of every row run alone, float32[rows, ...], none of whose axes is time."""
    (output,) = runtime.model.outputs
    return np.stack([runtime.answer([row])[0][output.name] for row in rows])
