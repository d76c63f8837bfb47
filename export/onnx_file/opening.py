"""From a file to a graph free in batch and time, with the file itself beside it as the judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from onnx import ModelProto

from export.errors import ExportError
from export.onnx_file.evaluate import first_line
from export.onnx_file.inputs import plans
from export.onnx_file.original import open_session
from export.onnx_file.reading import check_model, fold_constants, normalise, prefix_values, read_model, runnable
from export.onnx_file.walk import Folded, Freed, free
from export.spec import ModelInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that can be exported."""

    session: onnxruntime.InferenceSession
    freed: Freed


def open_file(path: Path, declared: Sequence[ModelInput] | None) -> Opened:
    """Read a file and free its batch and time.

    Raises:
        ExportError: it cannot be used; the message says which node is in the way, or what to export it with.
    """
    model = read_model(path)
    try:
        return _open(model, declared)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file can break any library on the way
        raise ExportError(
            f"{path}: damaged, or of a form that the libraries which read it do not expect: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error


def _open(model: ModelProto, declared: Sequence[ModelInput] | None) -> Opened:
    check_model(model)
    normal = normalise(model)
    prefixed = prefix_values(normal)
    nodes, constants = fold_constants(prefixed)
    outputs = tuple(value.name for value in prefixed.graph.output)
    folded = Folded(nodes=nodes, constants=constants, opsets=prefixed.opset_import, outputs=outputs)
    freed = free(folded, plans(normal, declared))
    return Opened(session=open_session(runnable(model)), freed=freed)
