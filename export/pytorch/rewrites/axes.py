"""What the axes of a traced tensor are: rows, steps, or sizes made of steps."""

from dataclasses import dataclass

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx import Node

from serving.manifest import BATCH, TIME, Dimension


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The graph's symbols for rows and steps, and its input of lengths."""

    batch: str
    time: str
    lengths: Node

    def name(self, size: int | torch.SymInt) -> Dimension | str:
        """Return `batch`, `time`, the number, or the symbolic expression of anything else."""
        return size if isinstance(size, int) else {self.batch: BATCH, self.time: TIME}.get(str(size), str(size))

    def names(self, node: Node) -> list[Dimension | str]:
        """Return what each axis of a tensor is."""
        return [self.name(size) for size in node.meta["val"].shape]

    def steps(self, size: object) -> sympy.Expr | None:
        """Return the expression of a size that is made of the number of steps alone, such as time // 2; else None."""
        expression = expression_of(size)
        if expression is None or {str(symbol) for symbol in expression.free_symbols} != {self.time}:
            return None
        return expression

    def rows(self, size: object) -> int | None:
        """Return k if a size is k * batch (heads folded into rows); else None."""
        expression = expression_of(size)
        if expression is None or {str(symbol) for symbol in expression.free_symbols} != {self.batch}:
            return None
        (symbol,) = expression.free_symbols
        quotient = expression / symbol
        return int(quotient) if quotient.is_Integer else None

    def time_axes(self, node: Node) -> list[int]:
        """Return the axes of a tensor whose size is made of the number of steps."""
        return [axis for axis, size in enumerate(node.meta["val"].shape) if self.steps(size) is not None]

    def row_axis(self, node: Node) -> tuple[int, int] | None:
        """Return the one axis of a tensor that holds rows, and k of its size k * batch; None unless there is just one.

        Rows are then the outer part of a folded axis, as torch's own attention lays them.
        """
        found = [(axis, k) for axis, size in enumerate(node.meta["val"].shape) if (k := self.rows(size)) is not None]
        return found[0] if len(found) == 1 else None


def expression_of(size: object) -> sympy.Expr | None:
    """Return the expression of a symbolic number, None of anything else."""
    if isinstance(size, (torch.SymInt, torch.SymFloat)):
        return size.node.expr
    return None


def find_axes(program: ExportedProgram, *, time_input: int, lengths_input: int) -> Axes:
    """Return the symbols of the program, whose inputs are batch-first.

    Args:
        program: traced with dynamic batch and time.
        time_input: position of an input that follows time.
        lengths_input: position of the lengths.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    batch, time, *_ = nodes[str(names[time_input])].meta["val"].shape
    return Axes(batch=str(batch), time=str(time), lengths=nodes[str(names[lengths_input])])
