"""Good requests of every form that the protocol allows, for any model: what all others are made from."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from serving._proto import open_inference_pb2 as oip
from serving.manifest import Manifest, Tensor
from serving.wire.outputs import Offer
from serving.wire.state import StateToken

MOST_ROWS, MOST_STEPS = 4, 12
"""What the models' policies let through; a request just above them is still small."""
SMALLEST_INT, LARGEST_INT = -(2**63), 2**63 - 1
TYPED_SHARE = 0.2
CODES = {"FP32": "f", "INT32": "i", "INT64": "q"}
FIELDS = {"FP32": "fp32_contents", "INT32": "int_contents", "INT64": "int64_contents"}


@dataclass(frozen=True)
class Target:
    """A model that requests are made for."""

    manifest: Manifest
    outputs: tuple[str, ...]
    token: StateToken | None

    @classmethod
    def of(cls, manifest: Manifest) -> "Target":
        token = None if manifest.state is None else StateToken(manifest, manifest.state)
        return cls(manifest, tuple(output.name for output in Offer(manifest).all), token)

    @property
    def state_floats(self) -> int:
        assert self.manifest.state is not None, "the model is stepwise"
        return self.manifest.state.size


def good(
    rng: Random, target: Target, *, rows: int | None = None, steps: int | None = None, typed: bool | None = None
) -> oip.ModelInferRequest:
    """Draw a request that must be answered."""
    rows = rng.randint(1, 3) if rows is None else rows
    steps = rng.randint(1, 5) if steps is None else steps
    typed = rng.random() < TYPED_SHARE if typed is None else typed
    manifest = target.manifest
    request = oip.ModelInferRequest(model_name=manifest.name, id=rng.choice(("", "r1", "\N{SNOWMAN}" * 3, "x" * 300)))
    if rng.random() < 0.2:
        request.model_version = str(manifest.version)
    tensors = list(manifest.inputs)
    rng.shuffle(tensors)
    for tensor in tensors:
        shape = [axis if isinstance(axis, int) else {"batch": rows, "time": steps}[axis] for axis in tensor.shape]
        values = _values(rng, tensor, int(np.prod(shape)))
        add(request, tensor.name, tensor.datatype, shape, values, typed=typed)
    if rng.random() < 0.3:
        lengths = [steps] * rows if manifest.equal_lengths else [rng.randint(1, steps) for _ in range(rows)]
        add(request, "lengths", "INT64", [rows], lengths, typed=typed)
    if target.token is not None and not typed and rng.random() < 0.5:
        states = np.array([[rng.uniform(-1, 1) for _ in range(target.state_floats)] for _ in range(rows)], np.float32)
        request.inputs.add(name=target.token.name, datatype="UINT8", shape=[rows, target.token.width])
        request.raw_input_contents.append(target.token.write(states))
    if rng.random() < 0.3:
        for name in rng.choices(target.outputs, k=rng.randint(1, 3)):
            request.outputs.add(name=name)
    if rng.random() < 0.3:
        request.parameters["priority"].int64_param = rng.randint(0, 9)
    if rng.random() < 0.3:
        request.parameters["timeout"].uint64_param = rng.choice((0, 10**7, 2**53))
    return request


def add(
    request: oip.ModelInferRequest, name: str, datatype: str, shape: list[int], values: Sequence[float], *, typed: bool
) -> None:
    """Append an input."""
    sent = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if typed:
        getattr(sent.contents, FIELDS[datatype]).extend(values)
    else:
        request.raw_input_contents.append(struct.pack(f"<{len(values)}{CODES[datatype]}", *values))


def _values(rng: Random, tensor: Tensor, count: int) -> list[float]:
    if tensor.datatype == "FP32":
        return [rng.uniform(-3, 3) for _ in range(count)]
    largest = 100 if tensor.vocabulary is None else tensor.vocabulary - 1
    return [rng.randint(0, largest) for _ in range(count)]
