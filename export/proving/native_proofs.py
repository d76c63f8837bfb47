"""What the native INT8 form of a model costs, and that its answers do not depend on company or on chunks."""

from collections.abc import Mapping, Sequence

import onnx

from export.graphs import all_nodes
from export.proving.int8_proofs import shared_figures
from export.proving.proofs import COMPANY_LIMIT, measure_chunks, measure_company
from export.runtime import Row, Runtime
from serving.manifest import Proof

NATIVE = "native"
COMPANIES = 1000
MOVES = {
    "Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
    "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that compute no floats: where no other lies between the native layers, answers are the same to the bit."""


def prove_native_company(
    native: Runtime, pool: Sequence[Row], contents: Sequence[bytes], *, equal_lengths: bool
) -> Proof:
    """Prove that an answer in 1,000 random batches is the one to the row alone.

    It is to the bit as far as the native layers go. onnxruntime's float operators beside them, such as a head's
    product, may take other kernels for other batch sizes: then FP32's limit holds.

    Args:
        native: runs the parts.
        pool: rows of many lengths.
        contents: the parts' ONNX files.
        equal_lengths: rows share batches only with rows of their own length.
    """
    difference = measure_company(native, pool, equal_lengths=equal_lengths, batches=COMPANIES)
    measured = shared_figures(difference) | {"lengths": "equal" if equal_lengths else "mixed", "batches": COMPANIES}
    return _within(f"{NATIVE}_company", difference.relative, measured, contents)


def prove_native_chunks(native: Runtime, pool: Sequence[Row], contents: Sequence[bytes]) -> Proof:
    """Prove that chunks with carried state give the answers of one run, within the limits of company."""
    difference = measure_chunks(native, pool)
    return _within(f"{NATIVE}_chunks", difference.relative, shared_figures(difference), contents)


def _within(name: str, relative: float, figures: Mapping[str, float | int | str], contents: Sequence[bytes]) -> Proof:
    operators = {node.op_type for content in contents for node in all_nodes(onnx.load_from_string(content).graph)}
    limit = COMPANY_LIMIT if operators - MOVES else 0.0
    measured = {"relative": relative, **figures}
    return Proof(name=name, passed=relative <= limit, measured=measured, limit={"relative": limit})
