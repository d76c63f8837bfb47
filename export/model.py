"""An ONNX model in memory with what is known of its tensors."""

from dataclasses import dataclass

from serving.manifest import State, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """A model that is not yet, or already, in a folder.

    Attributes:
        content: bytes of the single-file ONNX model, weights inside.
        inputs: without lengths and state.
        outputs: without the next state.
        state: None for a model that cannot carry it.
        recurrent_nodes: names of its recurrent operators, in the order in which they run.
    """

    content: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    state: State | None
    recurrent_nodes: tuple[str, ...]
