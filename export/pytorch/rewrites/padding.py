"""All that a forward does over time covers, in a padded batch, the real steps of each row, as it does alone.

Each pattern is a function of a node: it returns the node to take its place, the node itself if it has other arguments
now, or None. Where it cannot tell (rows folded into steps, places made of tensors) the node stays, and the company
proof decides. In a batch of equal lengths no pattern changes anything.
"""

from collections.abc import Callable

from torch.export import ExportedProgram
from torch.fx import Node

from export.pytorch.lines import line_of_trace
from export.pytorch.rewrites import averages, products, reads, reductions
from export.pytorch.rewrites.axes import Axes
from export.pytorch.rewrites.boundary import settle
from export.pytorch.rewrites.writer import Unsupported, Writer

PATTERNS: list[Callable[[Writer, Node], Node | None]] = [
    reads.step,
    reads.part,
    reads.reversal,
    reads.number_of_steps,
    reads.layer,
    averages.mean,
    averages.largest,
    averages.spread,
    averages.normalization,
    reductions.reduction,
    reductions.ordering,
    reductions.window,
    reductions.pad,
    products.product,
    products.einsum,
    products.attention,
]


def read_by_lengths(program: ExportedProgram, axes: Axes) -> tuple[str, ...]:
    """Rewrite what a padded batch would make wrong.

    Returns:
        The user's line of each rewritten operation, `file.py:LINE: code`, in the order in which they run.
    """
    graph = program.graph_module.graph
    writer = Writer(graph, axes)
    rewritten = [
        line_of_trace(node.meta.get("stack_trace") or "") or node.name
        for node in list(graph.nodes)
        if node.op == "call_function" and _rewrite(writer, node)
    ]
    settle(program)
    return tuple(rewritten)


def _rewrite(writer: Writer, node: Node) -> bool:
    for pattern in PATTERNS:
        try:
            with writer.replacing(node):
                replacement = pattern(writer, node)
        except Unsupported:
            continue
        if replacement is not None:
            if replacement is not node:
                node.replace_all_uses_with(replacement)
                writer.graph.erase_node(node)
            return True
    return False
