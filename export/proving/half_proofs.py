"""What FP16 costs, measured against the FP32 version it was made from.

On the CPU onnxruntime computes in FP32 between FP16 tensors: weights, and what passes between operators, are rounded,
sums are not. Proofs that ran there are called `..._emulated`.
"""

from collections.abc import Sequence

import numpy as np

from export.data import Data
from export.proving.accuracy import Comparison, compare, compare_answers
from export.proving.difference import Difference
from export.proving.int8_proofs import measure_bytes, shared_figures
from export.proving.proofs import measure_chunks, measure_company
from export.proving.stepwise import answer_in_chunks
from export.runtime import Row, Runtime
from serving.manifest import Manifest, Proof, Tensor

FP16 = "fp16"
EMULATED = "_emulated"
RMS_LIMIT = 0.02
"""Relative RMS error: FP16 rounds to 0.0005; what is some tens of times that grows from step to step."""
COMPANY_LIMIT = 5e-3
"""Relative to the largest output: a sum that differs in its last FP32 bit may round to the next FP16 value."""
LONG_STEPS = 512
LONG_ROWS = 4


def prove_half(
    manifest: Manifest, fp32: Runtime, half: Runtime, data: Data, rows: Sequence[Row]
) -> tuple[list[Proof], Comparison]:
    """Compare FP16 with FP32: on the data, on long sequences, in company, and in chunks if it is stepwise.

    Args:
        manifest: of either version.
        fp32: the reference.
        half: the FP16 version.
        data: to compare on.
        rows: of many lengths, for company and chunks.
    """
    comparison = compare(fp32, half, data.rows)
    measured = comparison.figures | measure_bytes(fp32.model.content, [half.model.content], form=FP16)
    measured |= {"rows": comparison.count, "data": "real" if data.real else "noise"}
    proofs = [_within(_named(FP16, half), comparison, measured), prove_long(fp32, half, data.rows)]
    lengths = "equal" if manifest.equal_lengths else "mixed"
    company = measure_company(half, rows, equal_lengths=manifest.equal_lengths)
    proofs.append(_shared("company", company, lengths=lengths))
    if manifest.stepwise:
        proofs.append(_shared("chunks", measure_chunks(half, rows), lengths=lengths))
    return proofs, comparison


def prove_long(fp32: Runtime, half: Runtime, rows: Sequence[Row]) -> Proof:
    """Compare on sequences of 512 steps; a stepwise model runs step by step, so that its state is rounded at each."""
    long_rows = [_lengthen(row, half.model.inputs) for row in rows[:LONG_ROWS]]
    expected = [fp32.answer([row])[0] for row in long_rows]
    if half.model.state is None:
        got, emulated = [half.answer([row])[0] for row in long_rows], "no: the model runs as a whole"
    else:
        got, emulated = answer_in_chunks(half, long_rows, chunk=1), "after every step"
    comparison = compare_answers(half.model.outputs, expected, got, long_rows)
    measured = comparison.figures | {"steps": LONG_STEPS, "state_rounded": emulated}
    return _within(_named(f"{FP16}_long", half), comparison, measured)


def _lengthen(row: Row, tensors: Sequence[Tensor]) -> Row:
    """Repeat a row's steps until it is `LONG_STEPS` long."""
    inputs = {
        tensor.name: np.resize(row.inputs[tensor.name], (LONG_STEPS, *row.inputs[tensor.name].shape[1:]))
        if tensor.follows_time
        else row.inputs[tensor.name]
        for tensor in tensors
    }
    return Row(inputs=inputs, steps=LONG_STEPS)


def _named(name: str, half: Runtime) -> str:
    return name + EMULATED if half.device == "cpu" else name


def _within(name: str, comparison: Comparison, measured: dict[str, float | int | str]) -> Proof:
    if comparison.floats is None:
        return Proof(name=name, passed=True, measured=measured)
    passed = comparison.floats.rms_relative <= RMS_LIMIT
    return Proof(name=name, passed=passed, measured=measured, limit={"rms_relative": RMS_LIMIT})


def _shared(name: str, difference: Difference, *, lengths: str) -> Proof:
    measured = shared_figures(difference) | {"lengths": lengths}
    if difference.floats is None:
        return Proof(name=name, passed=True, measured=measured)
    passed = difference.floats.relative <= COMPANY_LIMIT
    return Proof(name=name, passed=passed, measured=measured, limit={"relative": COMPANY_LIMIT})
