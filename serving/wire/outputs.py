"""What a model offers, what a request asks of it, and answers to messages. Pure: no I/O, no context.

Source of the forms: Open Inference Protocol v2 (raw contents: little-endian, row-major, in the order of the outputs)
and Triton's binary tensor extension (an element of BYTES is its length as a 4-byte little-endian number, then itself).
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving._proto import open_inference_pb2 as oip
from serving.decoding import ctc
from serving.errors import InvalidRequest
from serving.manifest import CtcDecoding, Manifest, Tensor
from serving.tensors import Arrays
from serving.wire.parameters import refuse_parameters
from serving.wire.state import StateToken

Output = Tensor | CtcDecoding | StateToken
"""An output of the graph, text that is decoded from one, or the state to go on from."""


class Offer:
    """What one model version can answer: the graph's outputs, texts decoded from them, and a stepwise model's state."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._version = str(manifest.version)
        tokens = [] if manifest.state is None else [StateToken(manifest, manifest.state)]
        self.all: Sequence[Output] = (*manifest.outputs, *manifest.decodings, *tokens)
        self._known = {output.name: output for output in self.all}

    def requested(self, message: oip.ModelInferRequest) -> Sequence[Output]:
        """Return the outputs that the client asked for, in its order; all of them if it named none.

        Raises:
            InvalidRequest: an output that the model does not have, or one asked for in a form that is not offered.
        """
        wanted = []
        for output in message.outputs:
            known = self._known.get(output.name)
            if known is None:
                name = self._manifest.name
                raise InvalidRequest(
                    f"model '{name}' has no output '{output.name}'; its outputs are {listed(self._known)}"
                )
            if output.parameters:
                refuse_parameters("output", output.name, output.parameters)
            wanted.append(known)
        return wanted or self.all

    def encode(
        self,
        message: oip.ModelInferRequest,
        wanted: Iterable[Output],
        answer: Arrays,
        texts: Mapping[str, Sequence[str]],
    ) -> oip.ModelInferResponse:
        """Write an answer in raw form, with the request's id.

        Args:
            message: the request.
            wanted: from `requested`.
            answer: the graph's outputs for this request, by name.
            texts: from `decode_texts`.
        """
        response = oip.ModelInferResponse(model_name=self._manifest.name, model_version=self._version, id=message.id)
        contents = response.raw_output_contents
        for output in wanted:
            if isinstance(output, Tensor):
                values = answer[output.name]
                shape: Sequence[int] = values.shape
                contents.append(values.astype(output.dtype, copy=False).tobytes())
            elif isinstance(output, CtcDecoding):
                shape = (len(texts[output.name]),)
                contents.append(_length_prefixed(text.encode() for text in texts[output.name]))
            else:
                states = answer[output.source]
                shape = (len(states), output.width)
                contents.append(output.write(states))
            response.outputs.add(name=output.name, datatype=wire_datatype(output), shape=shape)
        return response


def takes_a_search(wanted: Iterable[Output]) -> bool:
    """Return whether `decode_texts` of these may take as long as a model does (tens of milliseconds per row)."""
    return any(isinstance(output, CtcDecoding) and output.method == "beam" for output in wanted)


def decode_texts(
    wanted: Iterable[Output], answer: Arrays, lengths: NDArray[np.int64], *, checkpoint: Callable[[], None]
) -> dict[str, list[str]]:
    """Return the text of each row for every decoding that is wanted.

    Args:
        wanted: from `requested`.
        answer: the graph's outputs for this request, by name.
        lengths: int64[rows], real steps of each row; nothing else is decoded.
        checkpoint: called again and again during a search; what it raises ends the search.
    """
    texts = {}
    for output in wanted:
        if isinstance(output, CtcDecoding):
            log_probs, alphabet = answer[output.source], ctc.Alphabet(output.symbols, output.blank)
            if output.method == "greedy":
                texts[output.name] = ctc.greedy(log_probs, lengths, alphabet)
            else:
                texts[output.name] = ctc.beam_search(
                    log_probs, lengths, alphabet, width=output.beam_width, checkpoint=checkpoint
                )
    return texts


def wire_datatype(output: Output) -> str:
    """Return the protocol's name of the type."""
    return "BYTES" if isinstance(output, CtcDecoding) else output.datatype


def wire_shape(output: Output) -> list[int]:
    """Return the shape with -1 for rows and steps, as ModelMetadata has it."""
    if isinstance(output, CtcDecoding):
        return [-1]
    if isinstance(output, StateToken):
        return [-1, output.width]
    return [axis if isinstance(axis, int) else -1 for axis in output.shape]


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with commas."""
    return ", ".join(f"'{name}'" for name in names)


def _length_prefixed(elements: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
