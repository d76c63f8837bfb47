"""The user's model behind the artefact's boundary, traced with dynamic batch and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from export.errors import CarriedStateUnsupported, ExportError
from export.pytorch.answers import name_outputs
from export.pytorch.calls import NotedCalls
from export.pytorch.forward import call_forward
from export.pytorch.recurrent import Observed, Run, Swapped, next_state, observe, swap_recurrent
from export.pytorch.rewrites import Axes, find_axes
from export.pytorch.untraceable import trace_or_explain
from export.spec import ExportSpec
from serving.manifest import BATCH, TIME, Datatype

EXAMPLE_LENGTHS = (7, 4, 1)
"""Rows of the traced batch (steps): sorted, as packing may ask for, and neither axis of size 0 or 1."""
TORCH_DTYPES: dict[Datatype, torch.dtype] = {"FP32": torch.float32, "INT32": torch.int32, "INT64": torch.int64}
LOOPS = (torch.ops.higher_order.scan, torch.ops.higher_order.while_loop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A traced model.

    Attributes:
        program: takes the spec's inputs, lengths and maybe the state; gives forward's outputs and maybe the next state.
        outputs: names of forward's outputs.
        nodes: names of the recurrent operators.
        state_size: S of the state float32[batch, S]; None if it is not carried.
    """

    program: ExportedProgram
    axes: Axes
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]
    state_size: int | None


@dataclass(slots=True)
class _Seen:
    """What forward did; an object of its own, because torch.export takes back what is assigned to the module."""

    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class _Boundary(nn.Module):
    """The user's model with the artefact's arguments: inputs batch-first, lengths, and the state if it is carried."""

    def __init__(
        self, model: nn.Module, layers: Sequence[Swapped], spec: ExportSpec, *, lengths_parameter: str | None
    ) -> None:
        super().__init__()
        self.model, self.layers, self.spec, self.lengths_parameter = model, layers, spec, lengths_parameter
        self.seen = _Seen()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(self.spec.inputs)
        inputs, lengths, state = tensors[:count], tensors[count], tensors[count + 1 :]
        time = inputs[time_input(self.spec)].shape[1]
        _unify(tensors, 0, lengths.shape[0])
        _unify([tensor for tensor, i in zip(inputs, self.spec.inputs, strict=True) if TIME in i.axes], 1, time)
        run = Run(lengths=lengths, time=time, state=state[0] if state else None)
        for layer in self.layers:
            layer.run = run
        arguments = to_forward(self.spec, inputs)
        if self.lengths_parameter is not None:
            arguments[self.lengths_parameter] = lengths
        with NotedCalls():
            outputs = name_outputs(self.model(**arguments), self.spec.outputs)
        self.seen.outputs, self.seen.nodes = tuple(outputs), tuple(run.nodes)
        return (*outputs.values(), *([next_state(run, self.layers)] if state else []))


def _unify(tensors: Sequence[Tensor], axis: int, size: int | torch.SymInt) -> None:
    """Tell the tracer now, not at its end, that one named axis has one size, so that layers can ask for it."""
    for tensor in tensors:
        torch._check(tensor.shape[axis] == size)  # type: ignore[no-untyped-call]  # noqa: SLF001  documented as public


def time_input(spec: ExportSpec) -> int:
    """Return the position of the first input that follows time."""
    return next(index for index, model_input in enumerate(spec.inputs) if TIME in model_input.axes)


def to_forward(spec: ExportSpec, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the arguments of `forward` by name, axes in its own order, from the artefact's batch-first inputs."""
    arguments = {}
    for model_input, tensor in zip(spec.inputs, inputs, strict=True):
        order = model_input.boundary_order
        arguments[model_input.name] = tensor.permute([order.index(axis) for axis in range(len(order))])
    return arguments


def example_inputs(spec: ExportSpec) -> tuple[Tensor, ...]:
    """Return seeded batch-first inputs of rows with `EXAMPLE_LENGTHS` steps; integers are 0, which any table has."""
    generator = torch.Generator().manual_seed(0)
    sizes: dict[str | int, int] = {BATCH: len(EXAMPLE_LENGTHS), TIME: max(EXAMPLE_LENGTHS)}
    tensors = []
    for tensor in (model_input.tensor for model_input in spec.inputs):
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
        dtype = TORCH_DTYPES[tensor.datatype]
        noise = torch.randn(shape, generator=generator)
        tensors.append(noise if dtype.is_floating_point else torch.zeros(shape, dtype=dtype))
    return tuple(tensors)


def observe_layers(model: nn.Module, spec: ExportSpec, *, lengths_parameter: str | None) -> Observed:
    """Run `forward` once and return what its recurrent layers were given.

    A zero `hx` is what torch takes by itself, so carried state may stand in its place; parity is proven afterwards.

    Raises:
        ExportError: a recurrent layer is not supported, or `forward` fails on a batch of the inputs as described.
    """
    arguments = to_forward(spec, example_inputs(spec))
    if lengths_parameter is not None:
        arguments[lengths_parameter] = torch.tensor(EXAMPLE_LENGTHS)
    try:
        with observe(model) as observed:
            call_forward(model, arguments)
    except ExportError:
        raise
    except Exception as error:
        shapes = {name: list(tensor.shape) for name, tensor in arguments.items()}
        raise ExportError(
            f"forward fails on a batch of the inputs as described: {type(error).__name__}: {error} "
            f"(batch {len(EXAMPLE_LENGTHS)}, time {max(EXAMPLE_LENGTHS)}: {shapes})"
        ) from error
    return observed


def trace(
    model: nn.Module,
    spec: ExportSpec,
    *,
    lengths_parameter: str | None,
    observed: Observed,
    carry_state: bool,
) -> Trace:
    """Trace the model with its recurrent layers swapped.

    Args:
        model: in evaluation mode; left as it is.
        spec: its inputs and the names of its outputs.
        lengths_parameter: name of forward's parameter for int64[batch] lengths, None if it has none.
        observed: as `observe_layers` returns it.
        carry_state: add an input and an output for the state, float32[batch, S].

    Raises:
        ExportError: the model cannot be traced with batch and time free.
        CarriedStateUnsupported: with `carry_state`, a layer does not run once over the inputs' rows and steps.
    """
    swapped, layers = swap_recurrent(model, observed)
    size = sum(layer.size for layer in layers)
    if carry_state:
        _check_causal(model, layers)
    boundary = _Boundary(swapped, layers, spec, lengths_parameter=lengths_parameter)
    examples = [*example_inputs(spec), torch.tensor(EXAMPLE_LENGTHS)]
    tensors = [model_input.tensor for model_input in spec.inputs]
    dynamic = [{i: Dim.DYNAMIC for i, axis in enumerate(t.shape) if isinstance(axis, str)} for t in tensors]
    dynamic.append({0: Dim.DYNAMIC})
    if carry_state:
        examples.append(torch.zeros(len(EXAMPLE_LENGTHS), size))
        dynamic.append({0: Dim.DYNAMIC})
    program = trace_or_explain(
        lambda: torch.export.export(
            boundary,
            tuple(examples),
            dynamic_shapes={"tensors": tuple(dynamic)},
            # conditions such as time // 2 != 1 are torch's own, for compiled kernels; the proofs judge short rows
            prefer_deferred_runtime_asserts_over_guards=True,
        ),
        {len(EXAMPLE_LENGTHS): BATCH, max(EXAMPLE_LENGTHS): TIME},
    )
    if not boundary.seen.nodes and not any(node.target in LOOPS for node in program.graph.nodes):
        raise ExportError(
            f"{type(model).__name__} has no recurrent layer: forward runs no nn.LSTM, nn.GRU, nn.RNN, layer of "
            "export.modules, scan or while_loop"
        )
    return Trace(
        program=program,
        axes=find_axes(program, time_input=time_input(spec), lengths_input=len(spec.inputs)),
        outputs=boundary.seen.outputs,
        nodes=boundary.seen.nodes,
        state_size=size if carry_state else None,
    )


def _check_causal(model: nn.Module, layers: Sequence[Swapped]) -> None:
    backwards = [layer.name for layer in layers if layer.backwards]
    if backwards:
        raise CarriedStateUnsupported(f"{backwards} are bidirectional, so they need the sequence's end first")
    cells = [name for name, module in model.named_modules() if isinstance(module, nn.RNNCellBase)]
    if cells or not layers:
        raise CarriedStateUnsupported(f"the state of cells and loops written by hand is not carried ({cells})")
