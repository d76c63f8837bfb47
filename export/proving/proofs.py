"""The checks that decide whether an artefact is written: parity with the original, company, chunks."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from export.data import SEED
from export.proving.difference import Difference
from export.proving.stepwise import answer_in_chunks
from export.runtime import Answer, Row, Runtime
from serving.manifest import Proof

PARITY_LIMIT = 1e-4
"""Relative to the largest output: float32 sums in another order, over hundreds of steps, stay well below."""
COMPANY_LIMIT = 1e-5
"""Relative to the largest output: other batch sizes may take other kernels, so the last bits may differ."""
PARITY_BATCHES = (1, 2, 7, 32)
COMPANY_BATCHES = 200
COMPANY_ROWS = 32
CHUNKS = (1, 3, 8, 16)
CHUNK_ROWS = 12


class Judge(Protocol):
    """The original model, whatever runs it."""

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return its answer to each row alone, without padding, axes in the artefact's order."""


def prove_parity(
    runtime: Runtime, reference: Judge, pool: Sequence[Row], *, equal_lengths: bool, limit: float = PARITY_LIMIT
) -> Proof:
    """Compare batches of {1, 2, 7, 32} rows in onnxruntime with the original's answers to each row alone, unpadded.

    Args:
        runtime: of the exported model.
        reference: the original model.
        pool: rows of many lengths, 1 among them.
        equal_lengths: rows of a batch all have one length; else they are mixed.
        limit: largest difference over the largest output.
    """
    expected = reference.answers(pool)
    difference = Difference(runtime.model.outputs)
    rng = np.random.default_rng(SEED)
    for size in PARITY_BATCHES:
        for _ in range(len(pool) // size if size > 1 else len(pool)):
            chosen = draw(rng, pool, size, equal_lengths=equal_lengths)
            for i, answer in zip(chosen, runtime.answer([pool[i] for i in chosen]), strict=True):
                difference.add(answer, expected[i])
    return Proof(
        name="parity",
        passed=difference.relative <= limit,
        measured={
            "relative": difference.relative,
            "max_abs": difference.max_abs,
            "rms": difference.rms,
            "longest_steps": max(row.steps for row in pool),
            "lengths": "equal" if equal_lengths else "mixed",
        },
        limit={"relative": limit},
    )


def measure_company(
    runtime: Runtime, pool: Sequence[Row], *, equal_lengths: bool, batches: int = COMPANY_BATCHES
) -> Difference:
    """Return how far the answers in seeded random batches are from those to the same rows alone, same model.

    Every second batch is padded with values instead of zeros, as a client may do.
    """
    alone = [runtime.answer([row])[0] for row in pool]
    difference = Difference(runtime.model.outputs)
    rng = np.random.default_rng(SEED + 1)
    for batch in range(batches):
        chosen = draw(rng, pool, int(rng.integers(1, COMPANY_ROWS + 1)), equal_lengths=equal_lengths)
        answers = runtime.answer([pool[i] for i in chosen], dirty=batch % 2 == 1)
        for i, answer in zip(chosen, answers, strict=True):
            difference.add(answer, alone[i])
    return difference


def prove_company(runtime: Runtime, pool: Sequence[Row]) -> tuple[Proof, bool]:
    """Prove that a row's answer does not depend on its batch; returns the proof and whether lengths must be equal.

    A model that fails with mixed lengths is tried with equal ones: that is how it will be served.
    """
    mixed = measure_company(runtime, pool, equal_lengths=False).relative
    if mixed <= COMPANY_LIMIT:
        return _company(mixed, {"relative": mixed, "lengths": "mixed"}), False
    equal = measure_company(runtime, pool, equal_lengths=True).relative
    return _company(equal, {"relative": equal, "lengths": "equal", "mixed_lengths_relative": mixed}), True


def _company(relative: float, measured: dict[str, float | int | str]) -> Proof:
    return Proof(
        name="company",
        passed=relative <= COMPANY_LIMIT,
        measured={**measured, "batches": COMPANY_BATCHES},
        limit={"relative": COMPANY_LIMIT},
    )


def prove_chunks(runtime: Runtime, pool: Sequence[Row]) -> Proof:
    """Prove that chunks of {1, 3, 8, 16} steps with carried state give the answers of one run."""
    difference = measure_chunks(runtime, pool)
    return Proof(
        name="chunks",
        passed=difference.relative <= COMPANY_LIMIT,
        measured={"relative": difference.relative, "max_abs": difference.max_abs, "chunks": str(list(CHUNKS))},
        limit={"relative": COMPANY_LIMIT},
    )


def measure_chunks(runtime: Runtime, pool: Sequence[Row]) -> Difference:
    """Return how far the answers in chunks are from those in one run of the row alone."""
    rng = np.random.default_rng(SEED + 2)
    rows = [pool[i] for i in rng.permutation(len(pool))[: CHUNK_ROWS - 1]] + [pool[-1]]
    alone = [runtime.answer([row])[0] for row in rows]
    difference = Difference(runtime.model.outputs)
    for chunk in CHUNKS:
        for answer, expected in zip(answer_in_chunks(runtime, rows, chunk=chunk), alone, strict=True):
            difference.add(answer, expected)
    return difference


def draw(rng: np.random.Generator, pool: Sequence[Row], size: int, *, equal_lengths: bool) -> list[int]:
    """Return indices of `size` rows; with `equal_lengths` all as long as a first one drawn."""
    candidates = np.arange(len(pool))
    if equal_lengths:
        steps = pool[int(rng.integers(len(pool)))].steps
        candidates = np.array([i for i, row in enumerate(pool) if row.steps == steps])
    return [int(i) for i in rng.choice(candidates, size, replace=size > len(candidates))]
