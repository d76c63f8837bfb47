"""What the report says of a file's export, in sentences."""

from collections.abc import Sequence

from export.onnx_file.evaluate import show
from export.onnx_file.finish import Candidate
from export.onnx_file.original import Original
from export.onnx_file.reading import RECURRENT
from export.onnx_file.walk import Freed

SHOWN = 8
"""Nodes that a sentence names before it counts the rest."""


def export_notes(freed: Freed, candidate: Candidate) -> list[str]:
    """Return how the inputs were read, what goes by lengths, and what the state holds."""
    inputs = ", ".join(f"{item.name}[{','.join(map(str, item.axes))}]" for item in freed.plan if not item.is_lengths)
    notes = [f"The file's inputs were read as {inputs}."]
    lengths = [item.name for item in freed.plan if item.is_lengths]
    if lengths:
        notes.append(f"Its input {_names(lengths)} is the artefact's `lengths`.")
    if freed.rewritten:
        notes.append(f"Nodes that go by `lengths` instead of by the end of the batch: {_names(freed.rewritten)}.")
    if candidate.carried:
        pairs = [name for pair in candidate.carried.items() for name in pair if name is not None]
        notes.append(f"Its inputs and outputs {_names(pairs)} are in the carried state.")
    return notes


def length_warning(original: Original) -> list[str]:
    """Return the warning that a file of one length has been compared at that length only."""
    if original.lengths is None:
        return []
    warning = (
        f"the file is bound to {original.frozen.time} steps, so parity with it was proven at lengths of "
        f"{original.lengths}; others rest on the proof of company. Export the original with a free time axis to prove "
        "them too"
    )
    return [warning]


def padding_warning(freed: Freed, measured: float) -> str:
    """Return the warning that rows may share a batch only with rows of their own length, and why.

    Args:
        freed: the graph.
        measured: largest change of an answer by padding, relative to the largest output.
    """
    over_rows = {node.name for node in freed.over_rows}
    without = [show(node) for node in freed.builder.nodes if node.op_type in RECURRENT and node.name not in over_rows]
    suspects = [*freed.mixing, *(f"{node}, which lengths could not be given to" for node in without)]
    named = f"Nodes that take steps together: {'; '.join(suspects[:SHOWN])}. " if suspects else ""
    return (
        f"in a padded batch of mixed lengths answers change by {measured:.2g} of the largest output. {named}Rows are "
        "therefore batched only with rows of their own length. To lift that, mask what the model reads over time"
    )


def _names(names: Sequence[str]) -> str:
    items = [f"`{name}`" for name in names]
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
