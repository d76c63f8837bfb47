"""The arguments of a node by name, as the operator's schema has them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

Arguments = dict[str, Any]


def arguments_of(node: Node) -> Arguments:
    """Return all arguments of a call to an aten operator, with defaults."""
    schema = node.target._schema  # type: ignore[union-attr]  # noqa: SLF001  an OpOverload; torch has no other way
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    return {**defaults, **given, **node.kwargs}


def give(node: Node, changes: Mapping[str, Any]) -> Node:
    """Change arguments of a node in place, by name, and return it."""
    schema = node.target._schema  # type: ignore[union-attr]  # noqa: SLF001  as above
    for position, argument in enumerate(schema.arguments):
        if argument.name in changes:
            if position < len(node.args):
                node.update_arg(position, changes[argument.name])
            else:
                node.update_kwarg(argument.name, changes[argument.name])
    return node


def packet_of(node: Node) -> object:
    """Return the operator without its overload, None for what is no call to an operator."""
    return node.target.overloadpacket if isinstance(node.target, torch._ops.OpOverload) else None  # noqa: SLF001


def axes_of(dim: int | list[int] | None, rank: int) -> list[int]:
    """Return the axes that an argument `dim` means, counted from the front; all of them for None and []."""
    if dim is None or dim == []:
        return list(range(rank))
    return [axis % rank for axis in ([dim] if isinstance(dim, int) else dim)]
