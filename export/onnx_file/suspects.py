"""Constants that may be the number of steps which a file is bound to, where no comparison could tell."""

from onnx import NodeProto

from export.onnx_file.builder import Builder
from export.onnx_file.evaluate import show
from export.onnx_file.reading import ADDED

FACTORS = frozenset({"Div", "Mul"})
TERMS = frozenset({"Add", "Sub", "Mod", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Min", "Max"})
FEWEST_STEPS = 3
"""Below it the number of steps is too common a constant to mean anything."""
TOLERANCE = 1e-6


def steps_in_constants(builder: Builder, steps: int | None) -> list[str]:
    """Return the nodes that compute with a constant which is the file's number of steps, or one below, or one over it.

    A mean written as a sum over time divided by 7 is right at 7 steps, which are all that the file can be asked for.
    """
    if steps is None or steps < FEWEST_STEPS:
        return []
    return [
        show(node) for node in builder.nodes if not node.name.startswith(ADDED) and _holds(node, builder, float(steps))
    ]


def _holds(node: NodeProto, builder: Builder, steps: float) -> bool:
    wanted = {steps, 1 / steps} if node.op_type in FACTORS else {steps, steps - 1} if node.op_type in TERMS else set()
    arrays = [array for name in node.input if (array := builder.constant_of(name)) is not None]
    numbers = [float(array.reshape(())) for array in arrays if array.size == 1 and array.dtype.kind in "fiu"]
    return any(abs(number - item) <= TOLERANCE * steps for number in numbers for item in wanted)
