"""`lengths` for the recurrent nodes that run over the batch's rows and steps."""

from onnx import NodeProto

from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import NodeFailure, show
from export.onnx_file.frozen import SEQUENCE_LENS
from export.onnx_file.probing import IS_BATCH, IS_TIME, PROBES
from export.spec import LENGTHS


def runs_over_rows(node: NodeProto, builder: Builder) -> bool:
    """Return whether a recurrent node's input is [time, batch, features] of the batch itself.

    Raises:
        NodeFailure: it is [batch, time, features].
    """
    first, second = builder.axes(node.input[0])[:2]
    if (first, second) == (IS_BATCH, IS_TIME):
        raise NodeFailure(
            f"{show(node)} runs along the batch, from row to row; ONNX takes [time, batch, features]. If the input's "
            "axes are named as they are, the model was built with batch and time exchanged (batch_first forgotten?)"
        )
    return (first, second) == (IS_TIME, IS_BATCH)


def give_lengths(node: NodeProto, builder: Builder) -> bool:
    """Wire `lengths` to sequence_lens, unless that comes from the caller already; returns whether it has them.

    What a file computes from its own sizes instead (every row is as long as the batch) is replaced.
    """
    if not runs_over_rows(node, builder):
        return False
    if given := (list(node.input) + [""] * 5)[SEQUENCE_LENS]:
        value = builder.values[given]
        if LENGTHS in value.sources:
            return True
        full = all((sample == probe.time).all() for sample, probe in zip(value.samples, PROBES, strict=True))
        if not full:
            return False
    node.input.extend([""] * (SEQUENCE_LENS + 1 - len(node.input)))
    node.input[SEQUENCE_LENS] = builder.lengths32
    return True
