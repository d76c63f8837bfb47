"""The state that a client carries from one request of a stream to the next, as bytes that mean nothing to it.

Each row is 16 bytes that name the model file it belongs to, then the recurrent state as little-endian FP32. The server
keeps nothing of a stream, so any replica with the same model file goes on from it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest, StateMismatch
from serving.manifest import Manifest, State
from serving.tensors import Array

IDENTITY_BYTES = 16
"""Of the model file's SHA-256: two files that differ agree in them by chance once in 2^128 pairs."""


class StateToken:
    """The form of one model version's carried state.

    Attributes:
        name: of the tensor, both ways.
        width: bytes of a row.
    """

    datatype = "UINT8"

    def __init__(self, manifest: Manifest, state: State) -> None:
        self._model = f"'{manifest.name}' version {manifest.version}"
        self._identity = bytes.fromhex(manifest.file.sha256)[:IDENTITY_BYTES]
        self.name = state.input
        self.source = state.output
        self.width = IDENTITY_BYTES + 4 * state.size

    def view(self, message: oip.ModelInferRequest, index: int) -> Array:
        """View the tensor that a request brought as uint8[rows, width].

        Raises:
            InvalidRequest: it has another form.
        """
        sent = message.inputs[index]
        shape = list(sent.shape)
        if sent.datatype != self.datatype or len(shape) != 2 or shape[1] != self.width:
            raise InvalidRequest(
                f"input '{self.name}' is {sent.datatype} {shape}; expected {self.datatype} [rows, {self.width}], the "
                "bytes that came with the last answer"
            )
        if not message.raw_input_contents:
            raise InvalidRequest(f"input '{self.name}' has typed contents; send all inputs as raw_input_contents")
        content = message.raw_input_contents[index]
        if shape[0] < 1 or len(content) != shape[0] * self.width:
            raise InvalidRequest(
                f"input '{self.name}' has {len(content)} bytes; its shape {shape} needs {shape[0] * self.width}"
            )
        return np.frombuffer(content, np.uint8).reshape(shape)

    def read(self, token: Array, *, rows: int) -> NDArray[np.float32]:
        """Return the states, float32[rows, S].

        Raises:
            InvalidRequest: another number of rows than the other inputs have, or values that no model makes.
            StateMismatch: another model or version made it.
        """
        if len(token) != rows:
            raise InvalidRequest(
                f"input '{self.name}' has {len(token)} rows; expected {rows}, as the other inputs have"
            )
        if any(row.tobytes() != self._identity for row in token[:, :IDENTITY_BYTES]):
            raise StateMismatch(
                f"input '{self.name}' does not come from model {self._model}: begin the stream again without it, or "
                "name in model_version the version that made it"
            )
        states = np.ascontiguousarray(token[:, IDENTITY_BYTES:]).view("<f4")
        if not np.isfinite(states).all():
            raise InvalidRequest(f"input '{self.name}' holds values that are not finite; send the bytes as they came")
        return states

    def write(self, states: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> bytes:
        """Return the raw content for float32[rows, S]."""
        return b"".join(self._identity + row.astype("<f4", copy=False).tobytes() for row in states)
