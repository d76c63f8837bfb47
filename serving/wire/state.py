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
from serving.wire.parameters import refuse_parameters

IDENTITY_BYTES = 16
"""Of the model file's SHA-256: two files that differ agree in them by chance once in 2^128 pairs."""


class StateToken:
    """The form of one model version's carried state.

    Attributes:
        name: of the tensor, both ways.
        width: bytes of a row.
        identity: its first bytes, which name the model file.
    """

    datatype = "UINT8"

    def __init__(self, manifest: Manifest, state: State) -> None:
        self._model = f"'{manifest.name}' version {manifest.version}"
        self.identity = bytes.fromhex(manifest.file.sha256)[:IDENTITY_BYTES]
        self._identity_bytes = np.frombuffer(self.identity, np.uint8)
        self.name = state.input
        self.source = state.output
        self.width = IDENTITY_BYTES + 4 * state.size

    def view(self, message: oip.ModelInferRequest, index: int) -> Array:
        """View the tensor that a request brought as uint8[rows, width].

        Raises:
            InvalidRequest: it has another form.
            StateMismatch: another model or version made it; its rows may have another width then.
        """
        sent = message.inputs[index]
        if sent.parameters:
            refuse_parameters("input", sent.name, sent.parameters)
        shape = list(sent.shape)
        if sent.datatype != self.datatype or len(shape) != 2 or min(shape) < 1:
            raise InvalidRequest(self._form(sent))
        if not message.raw_input_contents or sent.HasField("contents"):
            raise InvalidRequest(f"input '{self.name}' has typed contents; send all inputs as raw_input_contents")
        content = message.raw_input_contents[index]
        if len(content) != shape[0] * shape[1]:
            raise InvalidRequest(
                f"input '{self.name}' has {len(content)} bytes; its shape {shape} needs {shape[0] * shape[1]}"
            )
        token = np.frombuffer(content, np.uint8).reshape(shape)
        if shape[1] >= IDENTITY_BYTES and (token[:, :IDENTITY_BYTES] != self._identity_bytes).any():
            raise StateMismatch(
                f"input '{self.name}' does not come from model {self._model}: begin the stream again without it, or "
                "name in model_version the version that made it"
            )
        if shape[1] != self.width:
            raise InvalidRequest(self._form(sent))
        return token

    def read(self, token: Array, *, rows: int) -> NDArray[np.float32]:
        """View the states in what `view` gave as float32[rows, S].

        Raises:
            InvalidRequest: another number of rows than the other inputs have, or values that no model makes.
        """
        if len(token) != rows:
            raise InvalidRequest(
                f"input '{self.name}' has {len(token)} rows; expected {rows}, as the other inputs have"
            )
        states = token[:, IDENTITY_BYTES:].view("<f4")
        if not np.isfinite(states).all():
            raise InvalidRequest(f"input '{self.name}' holds values that are not finite; send the bytes as they came")
        return states

    def _form(self, sent: oip.ModelInferRequest.InferInputTensor) -> str:
        return (
            f"input '{self.name}' is {sent.datatype} {list(sent.shape)}; expected {self.datatype} "
            f"[rows, {self.width}], the bytes that came with the last answer"
        )

    def write(self, states: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> bytes:
        """Return the raw content for float32[rows, S]."""
        return b"".join(self.identity + row.astype("<f4", copy=False).tobytes() for row in states)
