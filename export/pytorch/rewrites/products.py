"""Products that sum over time, and attention: padded steps weigh nothing."""

import torch
from torch.fx import Node

from export.pytorch.rewrites.arguments import Arguments, arguments_of, give, packet_of
from export.pytorch.rewrites.reductions import FAINT
from export.pytorch.rewrites.writer import Writer, aten


def product(writer: Writer, node: Node) -> Node | None:
    """Let a matrix product that sums over time cover real steps only."""
    if packet_of(node) not in {aten.matmul, aten.bmm, aten.mm, aten.mv, aten.baddbmm}:
        return None
    arguments = arguments_of(node)
    names = [argument for argument in arguments if isinstance(arguments[argument], Node)][-2:]
    left, right = (arguments[name] for name in names)
    summed = {names[0]: (left, left.meta["val"].dim() - 1), names[1]: (right, max(right.meta["val"].dim() - 2, 0))}
    changes = _smallest_filled(writer, summed)
    return give(node, changes) if changes else None


def _smallest_filled(writer: Writer, summed: dict[str, tuple[Node, int]]) -> dict[str, Node]:
    """Return one operand, by name, with zeros in the padding of its summed axis: the one with fewest axes over time."""
    for name, (operand, axis) in sorted(summed.items(), key=lambda item: len(writer.axes.time_axes(item[1][0]))):
        filled = writer.fill(operand, [axis], 0.0)
        if filled is not None:
            return {name: filled}
    return {}


def einsum(writer: Writer, node: Node) -> Node | None:
    """Let an `einsum` that sums over time cover real steps only; one with `...` sums over what is named."""
    if packet_of(node) is not aten.einsum:
        return None
    arguments = arguments_of(node)
    operands = list(arguments["tensors"])
    terms, _, result = arguments["equation"].replace(" ", "").partition("->")
    labels = [
        _labels(term, operand.meta["val"].dim()) for term, operand in zip(terms.split(","), operands, strict=True)
    ]
    kept = set(result) if "->" in arguments["equation"] else {c for c in terms if terms.count(c) == 1}
    changed = False
    for label in sorted({c for names in labels for c in names if c.isalpha()} - kept):
        summed = {str(i): (operands[i], names.index(label)) for i, names in enumerate(labels) if label in names}
        for place, filled in _smallest_filled(writer, summed).items():
            operands[int(place)], changed = filled, True
    return give(node, {"tensors": operands}) if changed else None


def _labels(term: str, rank: int) -> list[str]:
    before, dots, after = term.partition("...")
    return [*before, *["..."] * (rank - len(before) - len(after) if dots else 0), *after]


def attention(writer: Writer, node: Node) -> Node | None:
    """Let scaled dot product attention see the keys of real steps only, beside the mask that it has."""
    if node.target is not aten.scaled_dot_product_attention.default:
        return None
    arguments = arguments_of(node)
    mask = _attention_mask(writer, arguments)
    if mask is None:
        return None
    changes = {"attn_mask": mask, "is_causal": False}
    if arguments["key"].meta["val"].dim() == 4:
        return give(node, changes)
    tensors = {name: arguments[name] for name in ("query", "key", "value")} | {"attn_mask": mask}
    lifted = {name: writer.put(aten.unsqueeze.default, tensor, -3) for name, tensor in tensors.items()}
    attended = writer.put(node.target, **lifted, scale=arguments["scale"])  # torch.onnx takes four axes only
    return writer.put(aten.squeeze.dim, attended, -3)


def _attention_mask(writer: Writer, arguments: Arguments) -> Node | None:
    """Return what is added to the scores, float32[batch, ..., queries, keys] or with ones; None without padding."""
    query, key, mask = arguments["query"], arguments["key"], arguments["attn_mask"]
    padding = writer.padding(key, key.meta["val"].dim() - 2)
    if padding is None:
        return None
    padding = writer.put(aten.transpose.int, padding, -2, -1)
    zeros = writer.put(aten.full_like.default, padding, 0.0, dtype=query.meta["val"].dtype)
    faint = writer.put(aten.masked_fill.Scalar, zeros, padding, FAINT)
    if arguments["is_causal"]:
        past = writer.put(aten.arange.default, writer.size(key, key.meta["val"].dim() - 2))
        now = writer.put(aten.arange.default, writer.size(query, query.meta["val"].dim() - 2))
        future = writer.put(aten.gt.Tensor, past, writer.put(aten.unsqueeze.default, now, 1))
        return _hide(writer, faint, future, FAINT)
    if mask is None:
        return faint
    if mask.meta["val"].dtype == torch.bool:
        return _hide(writer, faint, writer.put(aten.logical_not.default, mask), -torch.inf)
    return writer.put(aten.clamp_min.default, writer.put(aten.add.Tensor, mask, faint), FAINT)


def _hide(writer: Writer, scores: Node, hidden: Node, value: float) -> Node:
    """Return the scores with a value where the mask, which may have more queries, is true."""
    return writer.put(aten.where.self, hidden, writer.put(aten.full_like.default, scores, value), scores)
