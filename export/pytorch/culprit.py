"""Which line of forward makes a row's answer depend on its batch, found in the exported graph.

All tensors of the graph become outputs; the culprit is the first operation whose part of a row differs between a
padded batch and the row alone although its inputs' parts agree, and whose difference reaches an answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import NodeProto

from export.pytorch.to_onnx import Exported
from export.runtime import Array, Row, Runtime

TOLERANCE = 1e-5
"""Relative to a tensor's largest value: other batch sizes may take other kernels, so the last bits may differ."""
ROWS = 3
MAX_STEPS = 64
"""Of the rows to look at, if there are such: every tensor of the graph is held for each."""
ADVICE: tuple[tuple[str, str], ...] = (
    (r"Conv|Pool", "take 'lengths' in forward and put zeros beyond each row's end before it (torch.where)"),
    (r"Gather|Slice", "read the last steps by 'lengths' (y[torch.arange(len), lengths - 1]), not from the end"),
    (r"Concat|Pad", "append by 'lengths' (torch.where on the position), not behind the padding"),
    (r"Resize|TopK", "do it in the caller, who has one row without padding"),
    (r"LSTM|GRU|RNN", "pack what it is given (pack_padded_sequence), so that it ends where each row does"),
    (r"Reduce|Softmax|MatMul|Einsum|Arg", "take 'lengths' in forward and mask what it reads over time"),
)
OTHERWISE = "take 'lengths' in forward, use it instead of sizes, pack the sequence, and mask what it reads over time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """An operation that reads other rows or padded steps.

    Attributes:
        line: of the user's, `file.py:LINE: code`; None if the graph does not tell.
        operator: of ONNX.
        advice: what to write instead.
    """

    line: str | None
    operator: str
    advice: str


def find_culprit(exported: Exported, pool: Sequence[Row]) -> Culprit | None:
    """Return what makes rows of mixed lengths differ from the rows alone; None if it cannot be told.

    Args:
        exported: a model that failed the company proof with mixed lengths.
        pool: rows of several lengths.
    """
    rows = _choose(pool)
    graph = onnx.load_from_string(exported.model.content)
    answers = {output.name for output in graph.graph.output}
    known = {value.name: value for value in graph.graph.value_info}
    inner = [name for node in graph.graph.node for name in node.output if name and name not in answers]
    graph.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in inner)
    runtime = Runtime(replace(exported.model, content=graph.SerializeToString()))
    differing = _differing(runtime, rows)
    node = _first(graph.graph.node, differing, answers)
    if node is None:
        return None
    line = next((exported.lines[name] for name in (*node.output, *node.input) if name in exported.lines), None)
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, node.op_type)), OTHERWISE)
    return Culprit(line=line, operator=node.op_type, advice=advice)


def explain_padding(exported: Exported, pool: Sequence[Row], relative: float) -> str:
    """Return the warning of a model that may only meet rows of its own length.

    Args:
        exported: the model.
        pool: rows of several lengths.
        relative: by how much of the largest output its answers change with mixed lengths.
    """
    culprit = find_culprit(exported, pool)
    where, advice = "forward reads padded steps", OTHERWISE
    if culprit is not None:
        advice = culprit.advice
        where = f"`{culprit.line}` reads padded steps ({culprit.operator})" if culprit.line else culprit.operator
    return (
        f"in a padded batch of mixed lengths answers change by {relative:.2g} of the largest output, because {where}. "
        f"Rows are therefore batched only with rows of their own length. To lift that, {advice}"
    )


def _choose(pool: Sequence[Row]) -> list[Row]:
    """Return rows of different lengths: a short one, and longer ones."""
    by_steps = {row.steps: row for row in pool}
    steps = [number for number in sorted(by_steps) if number <= MAX_STEPS]
    if len(steps) < 2:
        steps = sorted(by_steps)[:2]
    places = np.linspace(min(1, len(steps) - 2), len(steps) - 1, ROWS).round().astype(int)
    return [by_steps[steps[place]] for place in sorted(set(places.tolist()))]


def _differing(runtime: Runtime, rows: Sequence[Row]) -> set[str]:
    """Return the tensors in which a row's part is another in a padded batch of all rows."""
    batch = runtime.run(runtime.feed(rows, dirty=True))
    differing = set()
    for index, row in enumerate(rows):
        alone = runtime.run(runtime.feed([row]))
        twice = runtime.run(runtime.feed([row, row]))
        for name, tensor in alone.items():
            axis = _row_axis(tensor, twice[name])
            if axis is None or not _agree(_part(twice[name], tensor, axis, 1, 2), tensor):
                continue  # rows are not told apart by one axis, so no part can be cut out
            if not _agree(_part(batch[name], tensor, axis, index, len(rows)), tensor):
                differing.add(name)
    return differing


def _row_axis(alone: Array, twice: Array) -> int | None:
    axes = [axis for axis, (one, two) in enumerate(zip(alone.shape, twice.shape, strict=True)) if two == 2 * one != 0]
    return axes[0] if len(axes) == 1 else None


def _part(batch: Array, alone: Array, axis: int, index: int, rows: int) -> Array:
    """Cut out a row's real part: its block of the axis of rows, and of every axis what it has alone."""
    block = batch.shape[axis] // rows
    cut = [slice(size) for size in alone.shape]
    cut[axis] = slice(index * block, index * block + alone.shape[axis])
    return batch[tuple(cut)]


def _agree(got: Array, expected: Array) -> bool:
    if got.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return bool((got == expected).all())
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.isclose(got, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True).all())


def _first(nodes: Iterable[NodeProto], differing: set[str], answers: set[str]) -> NodeProto | None:
    """Return the first node whose outputs differ although no input does, and that an answer which differs rests on."""
    ordered = list(nodes)
    maker: Mapping[str, NodeProto] = {name: node for node in ordered for name in node.output}
    pending, reached = list(answers & differing), set()
    while pending:
        name = pending.pop()
        if name in maker and name not in reached:
            reached.add(name)
            pending.extend(maker[name].input)
    for node in ordered:
        made = set(node.output) & reached & differing
        if made and not set(node.input) & differing:
            return node
    return None
