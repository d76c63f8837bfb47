"""A model in parts, run in the order of its plan: ONNX Runtime, the native recurrent layers, and views between them.

Stands where an onnxruntime session of the whole model would. Buffers go from part to part as they are; ONNX Runtime
copies what it is given in another order than its own (a transposed view), and nothing else is copied.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engine.native.library import RecurrentLayer, Weights
from serving.engine.native.views import view_of
from serving.engine.native.weights import OPERATORS
from serving.engine.runtime import load_onnxruntime, session_options
from serving.errors import ArtifactError
from serving.plan import ConcatPart, OnnxPart, Part, Plan, RecurrentPart, ViewPart

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Run = Callable[[dict[str, Array], Sequence[str]], None]
"""Computes a part: takes its inputs from the tensors there are, and puts in those that are wanted of it, by name."""


class Node(NamedTuple):
    """An input or output, as onnxruntime's sessions name theirs."""

    name: str


class _Step(NamedTuple):
    """A part within one way of running the plan.

    Attributes:
        outputs: those of the part's that somebody reads or asked for.
        done: tensors that nobody reads after it.
    """

    run: Run
    outputs: tuple[str, ...]
    done: tuple[str, ...]


class NativeSession:
    """A model's plan, loaded. May be called from several threads at once; weights are in memory once."""

    def __init__(self, directory: Path, plan: Plan, *, threads: int, weights: Weights | None = None) -> None:
        """Load the parts.

        Args:
            directory: the version's folder `native`; its files' checksums have been verified.
            plan: of the version.
            threads: that a call may use; the recurrent layers' answers do not depend on it.
            weights: the plan's weights, where they are mapped already.

        Raises:
            EngineUnavailable: no onnxruntime, or the native library was not built.
            ArtifactError: a file cannot be read, or is not what the plan says of it.
        """
        self._parts = plan.parts
        self._inputs, self._outputs = plan.inputs, plan.outputs
        weights = weights or Weights(directory / plan.weights.name)
        self._runs = [_open(part, directory, weights, threads) for part in plan.parts]
        self._schedules: dict[tuple[str, ...], list[_Step]] = {}

    def get_inputs(self) -> list[Node]:
        """Return the tensors that a feed must have."""
        return [Node(name) for name in self._inputs]

    def get_outputs(self) -> list[Node]:
        """Return the tensors that can be asked for: all that are made, those between parts as well."""
        return [Node(name) for name in self._outputs]

    def run(self, names: Sequence[str] | None, feed: Tensors) -> list[Array]:
        """Compute the named tensors; parts that none of them needs are left out.

        Args:
            names: among `get_outputs`; None for all.
            feed: `get_inputs` by name, each as the ONNX graph has it; further ones are ignored.

        Returns:
            In the order of the names; may be read-only, or views that are not contiguous.

        Raises:
            ValueError: a tensor is missing, unknown, or of a shape that does not fit; whatever onnxruntime raises.
            FloatingPointError: NaN or infinity came to a recurrent layer; names the row.
        """
        wanted = self._outputs if names is None else tuple(names)
        schedule = self._schedules.get(wanted)
        if schedule is None:
            schedule = self._schedules[wanted] = self._schedule(wanted)
        missing = [name for name in self._inputs if name not in feed]
        if missing:
            raise ValueError(f"the feed has {sorted(feed)}, inputs {missing} are missing")
        tensors = dict(feed)
        for step in schedule:
            step.run(tensors, step.outputs)
            for name in step.done:
                del tensors[name]
        return [tensors[name] for name in wanted]

    def _schedule(self, wanted: tuple[str, ...]) -> list[_Step]:
        """Return the steps that the wanted tensors need, found from the last part to the first."""
        unknown = set(wanted) - set(self._outputs)
        if unknown:
            raise ValueError(f"no part makes {sorted(unknown)}; there are {list(self._outputs)}")
        needed, steps = set(wanted), []
        for part, run in zip(reversed(self._parts), reversed(self._runs), strict=True):
            outputs = tuple(name for name in part.outputs if name in needed)
            if outputs:
                done = tuple(dict.fromkeys(name for name in part.inputs if name not in needed))
                steps.append(_Step(run, outputs, done))
                needed.update(part.inputs)
        return steps[::-1]


def _open(part: Part, directory: Path, weights: Weights, threads: int) -> Run:
    match part:
        case OnnxPart():
            return _open_onnx(part, directory, threads)
        case ConcatPart():
            return partial(_run_concat, part)
        case ViewPart():
            return partial(_run_view, part.input, part.output, view_of(part))
        case RecurrentPart():
            return _open_recurrent(part, weights, threads)


def _open_onnx(part: OnnxPart, directory: Path, threads: int) -> Run:
    onnxruntime = load_onnxruntime()
    path = directory / part.file.name
    options = session_options(onnxruntime, threads=threads)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ArtifactError(f"{path}: onnxruntime cannot load it: {error}") from error
    for side, found, expected in (
        ("inputs", _names(session.get_inputs()), part.inputs),
        ("outputs", _names(session.get_outputs()), part.outputs),
    ):
        if found != set(expected):
            raise ArtifactError(f"{path}: its {side} are {sorted(found)}, the plan says {sorted(expected)}")
    return partial(_run_onnx, part, session)


def _open_recurrent(part: RecurrentPart, weights: Weights, threads: int) -> Run:
    layer = RecurrentLayer(weights, part.layer, threads=threads)
    if weights.describe(part.layer).kind != OPERATORS[part.operator]:
        raise ArtifactError(f"layer {part.layer} of the weights is no {part.operator}, as the plan's '{part.node}' is")
    return partial(_run_recurrent, part, layer)


def _names(nodes: Iterable[Node]) -> set[str]:
    return {node.name for node in nodes}


def _run_onnx(part: OnnxPart, session: Any, tensors: dict[str, Array], names: Sequence[str]) -> None:  # noqa: ANN401  no types
    outputs = session.run(list(names), {name: tensors[name] for name in part.inputs})
    tensors.update(zip(names, outputs, strict=True))


def _run_view(
    source: str, target: str, view: Callable[[Array], Array], tensors: dict[str, Array], _: Sequence[str]
) -> None:
    tensors[target] = view(tensors[source])


def _run_concat(part: ConcatPart, tensors: dict[str, Array], _: Sequence[str]) -> None:
    tensors[part.output] = np.concatenate([tensors[name] for name in part.inputs], axis=part.axis)


def _run_recurrent(part: RecurrentPart, layer: RecurrentLayer, tensors: dict[str, Array], names: Sequence[str]) -> None:
    lengths, initial_h, initial_c = (
        None if name is None else tensors[name] for name in (part.lengths, part.initial_h, part.initial_c)
    )
    if lengths is not None:
        lengths = lengths.astype(np.int32, copy=False)  # a graph may have INT64, as its input `lengths` is
    y, y_h, y_c = layer.run(tensors[part.x], lengths, initial_h, initial_c)
    made = {part.y: y, part.y_h: y_h, part.y_c: y_c}
    tensors.update((name, made[name]) for name in names)
