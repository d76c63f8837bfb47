"""What a model offers, what a request asks of it, and answers to messages. Pure: no I/O, no context.

Source of the forms: Open Inference Protocol v2 (raw contents: little-endian, row-major, in the order of the outputs)
and Triton's binary tensor extension (an element of BYTES is its length as a 4-byte little-endian number, then itself).
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving._proto import open_inference_pb2 as oip
from serving.decoding import ctc
from serving.errors import InvalidRequest
from serving.manifest import CtcDecoding, Datatype, Manifest, Tensor
from serving.tensors import Array, Arrays

UNSUPPORTED_TENSOR_PARAMETERS = ("shared_memory_region", "classification")

Output = Tensor | CtcDecoding
"""An output of the graph, or text that is decoded from one."""


def offered(manifest: Manifest) -> Sequence[Output]:
    """Return what a client may ask for: the graph's outputs, then the decodings."""
    return (*manifest.outputs, *manifest.decodings)


def requested(message: oip.ModelInferRequest, manifest: Manifest) -> Sequence[Output]:
    """Return the outputs that the client asked for, in its order; all of them if it named none.

    Raises:
        InvalidRequest: an output that the model does not have, or one asked for in a form that is not offered.
    """
    if not message.outputs:
        return offered(manifest)
    known = {output.name: output for output in offered(manifest)}
    for output in message.outputs:
        if output.name not in known:
            raise InvalidRequest(
                f"model '{manifest.name}' has no output '{output.name}'; its outputs are {listed(known)}"
            )
        refuse_parameters("output", output.name, output.parameters)
    return [known[output.name] for output in message.outputs]


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


def encode(
    message: oip.ModelInferRequest,
    manifest: Manifest,
    wanted: Iterable[Output],
    answer: Mapping[str, Array | list[str]],
) -> oip.ModelInferResponse:
    """Write an answer in raw form, with the request's id.

    Args:
        message: the request.
        manifest: of the version that answered.
        wanted: from `requested`.
        answer: the graph's outputs for this request and the decoded texts, by name.
    """
    response = oip.ModelInferResponse(model_name=manifest.name, model_version=str(manifest.version), id=message.id)
    for output in wanted:
        values = np.asarray(answer[output.name])
        response.outputs.add(name=output.name, datatype=wire_datatype(output), shape=values.shape)
        if isinstance(output, CtcDecoding):
            content = _length_prefixed(text.encode() for text in answer[output.name])
        else:
            content = values.astype(output.dtype, copy=False).tobytes()
        response.raw_output_contents.append(content)
    return response


def wire_datatype(output: Output) -> Datatype | Literal["BYTES"]:
    """Return the protocol's name of the type."""
    return "BYTES" if isinstance(output, CtcDecoding) else output.datatype


def wire_shape(output: Output) -> list[int]:
    """Return the shape with -1 for rows and steps, as ModelMetadata has it."""
    if isinstance(output, CtcDecoding):
        return [-1]
    return [axis if isinstance(axis, int) else -1 for axis in output.shape]


def refuse_parameters(side: str, name: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    """Refuse the parameters of a tensor that would change its meaning; others (`binary_data`...) change nothing.

    Raises:
        InvalidRequest: one of them is set.
    """
    for unsupported in UNSUPPORTED_TENSOR_PARAMETERS:
        if unsupported in parameters:
            raise InvalidRequest(f"{side} '{name}': parameter '{unsupported}' is not supported; send tensors as bytes")


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with commas."""
    return ", ".join(f"'{name}'" for name in names)


def _length_prefixed(elements: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
