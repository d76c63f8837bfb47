"""The original PyTorch model as the judge: one row at a time, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from export.errors import ExportError
from export.pytorch.answers import name_outputs
from export.pytorch.forward import call_forward
from export.pytorch.to_onnx import Exported
from export.pytorch.trace import to_forward
from export.runtime import Answer, Row
from export.spec import ExportSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The user's own model, unswapped, in evaluation mode."""

    model: nn.Module
    spec: ExportSpec
    lengths_parameter: str | None
    exported: Exported

    def answer(self, row: Row) -> Answer:
        """Return the model's answer to one row, axes in the artefact's order, without the batch axis.

        Raises:
            ExportError: `forward` fails on a single row, or drops its batch axis.
        """
        inputs = tuple(torch.from_numpy(np.array(row.inputs[i.name])[None]) for i in self.spec.inputs)
        arguments = to_forward(self.spec, inputs)
        if self.lengths_parameter is not None:
            arguments[self.lengths_parameter] = torch.tensor([row.steps])
        try:
            outputs = name_outputs(call_forward(self.model, arguments), self.spec.outputs)
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(
                f"forward fails on one row of {row.steps} steps: {type(error).__name__}: {error}"
            ) from error
        return self._boundary(row, outputs)

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the answer to each row alone; on one thread, which single rows are fastest on."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [self.answer(row) for row in rows]
        finally:
            torch.set_num_threads(threads)

    def _boundary(self, row: Row, outputs: dict[str, torch.Tensor]) -> Answer:
        answer = {}
        for tensor, order in zip(self.exported.model.outputs, self.exported.orders, strict=True):
            sizes = {"batch": 1, "time": row.steps}
            expected = [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
            output = outputs[tensor.name]
            if output.dim() != len(order) or list(output.permute(order).shape) != expected:
                raise ExportError(
                    f"output '{tensor.name}' of forward has shape {list(output.shape)} for one row of {row.steps} "
                    f"steps; from a batch it has the axes {list(tensor.shape)} (batch-first). Does forward squeeze() "
                    "the batch axis? Name the axis to squeeze"
                )
            answer[tensor.name] = output.permute(order)[0].numpy()
        return answer
