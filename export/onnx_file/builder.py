"""The graph under construction: every node that is added is run at once, so that the axes of its outputs are known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import groupby
from typing import Any

import numpy as np
from onnx import NodeProto, OperatorSetIdProto, helper

from export.onnx_file.evaluate import Array, NodeFailure, evaluate, reads, show
from export.onnx_file.probing import IS_BATCH, IS_TIME, PROBES, Size, Value
from export.onnx_file.reading import ADDED
from export.spec import LENGTHS
from serving.manifest import BATCH, TIME, Dimension

SHAPE_ONLY = frozenset({"Shape", "Size"})


class Builder:
    """Nodes in order, the values they give, and helpers that are made once and shared.

    Attributes:
        nodes: all that were added.
        values: by name: inputs, constants and what the nodes give.
    """

    def __init__(self, opsets: Sequence[OperatorSetIdProto], constants: Mapping[str, Array]) -> None:
        self.opsets = opsets
        self.nodes: list[NodeProto] = []
        self.values = {name: constant_value(array) for name, array in constants.items()}
        self._shared: dict[str, str] = {}
        self._count = 0

    def branch(self) -> "Builder":
        """Return a builder without nodes that goes on from the values there are."""
        other = Builder(self.opsets, {})
        other.values, other._shared, other._count = dict(self.values), dict(self._shared), self._count
        return other

    def input(self, name: str, shape: Sequence[Dimension], dtype: np.dtype[Any]) -> str:
        """Add a graph input of random numbers; integers are 0, which any table has."""
        rng = np.random.default_rng(0)
        samples = []
        for probe in PROBES:
            sizes: dict[str | int, int] = {BATCH: probe.batch, TIME: probe.time}
            numbers = rng.normal(size=[sizes[axis] if isinstance(axis, str) else axis for axis in shape])
            samples.append((numbers if dtype.kind == "f" else np.zeros_like(numbers)).astype(dtype))
        self.values[name] = Value(tuple(samples), frozenset({name}))
        return name

    def lengths_input(self) -> None:
        """Add the graph input `lengths`, int64[batch]: all rows are full."""
        samples = tuple(np.full(probe.batch, probe.time, np.int64) for probe in PROBES)
        self.values[LENGTHS] = Value(samples, frozenset({LENGTHS}))

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""
        name = self._name("constant")
        self.values[name] = constant_value(array)
        return name

    def integers(self, *numbers: int) -> str:
        """Add a constant int64[len(numbers)]."""
        return self.constant(np.array(numbers, np.int64))

    def emit(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401  ONNX's
        """Add a node with one output and return the output's name."""
        name = self._name(op)
        output = output or name
        self.add(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def transpose(self, name: str, order: Sequence[int], *, output: str | None = None) -> str:
        """Bring a value's axes into an order; gives the value itself if they are and it needs no other name."""
        if list(order) != sorted(order):
            return self.emit("Transpose", name, output=output, perm=list(order))
        return name if output is None else self.emit("Identity", name, output=output)

    def add(self, node: NodeProto) -> None:
        """Run a node and append it.

        Raises:
            NodeFailure: it cannot run with batch and time free.
        """
        names = reads(node)
        missing = [name for name in names if name not in self.values]
        if missing:
            raise NodeFailure(f"{show(node)} reads {missing}, which nothing before it gives")
        feeds = [{name: self.values[name].samples[i] for name in names} for i in range(len(PROBES))]
        results = evaluate(node, feeds, self.opsets)
        sources = frozenset[str]().union(*(self.values[name].sources for name in names))
        if node.op_type in SHAPE_ONLY:
            sources = frozenset()
        for name in results[0]:
            self.values[name] = Value(tuple(result[name] for result in results), sources)
        self.nodes.append(node)

    def axes(self, name: str) -> tuple[Size | None, ...]:
        """Return what each axis of a value stands for."""
        return self.values[name].axes

    def constant_of(self, name: str) -> Array | None:
        """Return a constant's numbers; None for what is no constant."""
        value = self.values.get(name)
        return value.samples[0] if value is not None and value.constant else None

    @property
    def rows(self) -> str:
        """The batch's rows, int64[1]."""
        return self._once("rows", lambda: self.emit("Shape", LENGTHS))

    def steps_from(self, name: str) -> None:
        """Take the graph's steps from axis 1 of this input, int64[1]."""
        self._shared["steps"] = self.emit("Shape", name, start=1, end=2)

    @property
    def steps(self) -> str:
        """The padded batch's steps, int64[1]."""
        return self._shared["steps"]

    @property
    def lengths32(self) -> str:
        """The lengths as recurrent operators take them, int32[batch]."""
        return self._once(
            "lengths32", lambda: self.emit("Cast", LENGTHS, to=helper.np_dtype_to_tensor_dtype(np.dtype("i4")))
        )

    def shape_of(self, sizes: Iterable[Size | None]) -> str:
        """Return an int64 shape made of sizes; None is left to be inferred (-1)."""
        parts: list[str] = []
        for following, group in groupby(sizes, lambda size: size is not None and (size.batch or size.time)):
            if following:
                parts += [self._product(size) for size in group if size is not None]
            else:
                parts.append(self.integers(*(-1 if size is None else size.number for size in group)))
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=0)

    def _product(self, size: Size) -> str:
        factors = [self.integers(size.number)] if size.number != 1 else []
        factors += [self.rows] if size.batch else []
        factors += [self.steps] if size.time else []
        return reduce(lambda one, other: self.emit("Mul", one, other), factors)

    def real(self, name: str, time: int) -> str | None:
        """Return a mask of real steps, bool, that broadcasts over a value; None if it has not the batch's axis once.

        Args:
            name: of the value.
            time: which of its axes holds the steps to tell real ones among.
        """
        value = self.values[name]
        batch = value.axis(IS_BATCH)
        if batch is None or value.axes[time] != IS_TIME:
            return None
        return self._once(f"real{value.rank}.{batch}.{time}", lambda: self._mask(value.rank, batch, time))

    def _mask(self, rank: int, batch: int, time: int) -> str:
        positions = self._once("positions", self._positions)
        lengths = self.emit("Unsqueeze", LENGTHS, self.integers(1))
        mask = self.emit("Less", positions, lengths)
        if time < batch:
            mask = self.transpose(mask, [1, 0])
        others = [axis for axis in range(rank) if axis not in {batch, time}]
        return self.emit("Unsqueeze", mask, self.integers(*others)) if others else mask

    def _positions(self) -> str:
        steps = self.emit("Squeeze", self.steps, self.integers(0))
        zero, one = self.constant(np.array(0, np.int64)), self.constant(np.array(1, np.int64))
        return self.emit("Range", zero, steps, one)

    def _once(self, key: str, make: Callable[[], str]) -> str:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{ADDED}{what}_{self._count}"


def constant_value(array: Array) -> Value:
    """Return a constant as a value."""
    return Value((array,) * len(PROBES), frozenset(), constant=True)
