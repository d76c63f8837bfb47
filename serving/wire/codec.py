"""ModelInfer messages to checked rows. Pure: no I/O, no context, no model but its description.

Everything that a client can get wrong is refused here, before it could enter a batch. Source of the rules: Open
Inference Protocol v2 (tensor contents: raw and typed exclude each other for the whole message; raw is little-endian,
row-major, in the order of the inputs) and Triton's extension "parameters" (`timeout`, `sequence_*`).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.manifest import BATCH, TIME, Manifest, Policy, Tensor
from serving.tensors import Array, Arrays, Rows
from serving.wire.outputs import listed, refuse_parameters

MICROSECOND_NS = 1_000
LARGEST_TIMEOUT_US = 2**53
SERVER_HELD_STATE = ("sequence_id", "sequence_start", "sequence_end")


def decode(message: oip.ModelInferRequest, manifest: Manifest, policy: Policy) -> Rows:
    """Check a request against the model's description and limits, and view its tensors as arrays without copying raw.

    Returns:
        The rows, finite, and zero beyond each row's length.

    Raises:
        InvalidRequest: names the tensor, what came, and what was expected.
    """
    _check_parameters(message)
    tensors = _tensors_by_name(message, manifest)
    arrays = {name: _array(message, index, tensors[name]) for name, index in _positions(message).items()}
    rows = _common_size(arrays, tensors, axis=BATCH, limit=policy.max_request_rows, knob="max_request_rows")
    time = _common_size(arrays, tensors, axis=TIME, limit=policy.max_steps, knob="max_steps")
    lengths = _lengths(arrays.pop(manifest.lengths_input or "", None), manifest, rows=rows, time=time)
    inputs = {name: _checked_values(tensors[name], array, lengths, manifest, policy) for name, array in arrays.items()}
    return Rows(inputs=inputs, lengths=lengths, time=time)


def timeout_ns(message: oip.ModelInferRequest) -> int | None:
    """Return the request parameter `timeout` (microseconds, as Triton has it) in nanoseconds, None without one.

    Raises:
        InvalidRequest: not a whole number of microseconds that could be a timeout.
    """
    if "timeout" not in message.parameters:
        return None
    parameter = message.parameters["timeout"]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else None
    if value is None or not 0 <= value <= LARGEST_TIMEOUT_US:
        raise InvalidRequest(
            f"parameter 'timeout' must be a whole number of microseconds (int64) from 0 to {LARGEST_TIMEOUT_US}"
        )
    return int(value) * MICROSECOND_NS or None  # Triton: 0 means none


def _check_parameters(message: oip.ModelInferRequest) -> None:
    for name in SERVER_HELD_STATE:
        if name in message.parameters and _is_set(message.parameters[name]):
            raise InvalidRequest(
                f"parameter '{name}' asks the server to keep a sequence's state between requests; this server keeps "
                "none, so that any replica can answer: send whole sequences"
            )


def _is_set(parameter: oip.InferParameter) -> bool:
    kind = parameter.WhichOneof("parameter_choice")
    return kind is not None and bool(getattr(parameter, kind))


def _positions(message: oip.ModelInferRequest) -> dict[str, int]:
    return {tensor.name: index for index, tensor in enumerate(message.inputs)}


def _tensors_by_name(message: oip.ModelInferRequest, manifest: Manifest) -> dict[str, Tensor]:
    """Return the descriptions of the inputs that may come; refuse missing, unknown and repeated names."""
    known = {tensor.name: tensor for tensor in manifest.inputs}
    required = list(known)
    if manifest.lengths_input is not None:
        known[manifest.lengths_input] = Tensor(name=manifest.lengths_input, datatype="INT64", shape=(BATCH,))
    sent = [tensor.name for tensor in message.inputs]
    expected = f"model '{manifest.name}' takes {listed(required)}"
    if not sent:
        raise InvalidRequest(f"the request has no inputs; {expected}")
    for name in sent:
        if name not in known:
            raise InvalidRequest(f"unknown input '{name}'; {expected}")
        if sent.count(name) > 1:
            raise InvalidRequest(f"input '{name}' was sent {sent.count(name)} times; {expected}")
    for name in required:
        if name not in sent:
            raise InvalidRequest(f"input '{name}' is missing; {expected}")
    return known


def _array(message: oip.ModelInferRequest, index: int, tensor: Tensor) -> Array:
    """View one input as an array of its declared shape."""
    sent = message.inputs[index]
    refuse_parameters("input", sent.name, sent.parameters)
    if sent.datatype != tensor.datatype:
        raise InvalidRequest(f"input '{tensor.name}' has datatype '{sent.datatype}'; expected {tensor.datatype}")
    shape = tuple(sent.shape)
    _check_shape(tensor, shape)
    values = _values(message, index, tensor)
    count = math.prod(shape)
    if len(values) != count:
        raise InvalidRequest(
            f"input '{tensor.name}' has {len(values)} values ({len(values) * tensor.dtype.itemsize} bytes); "
            f"its shape {list(shape)} needs {count} ({count * tensor.dtype.itemsize} bytes)"
        )
    return values.reshape(shape)


def _check_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    expected = (
        f"expected [{', '.join('rows' if a == BATCH else 'steps' if a == TIME else str(a) for a in tensor.shape)}]"
    )
    if len(shape) != len(tensor.shape):
        raise InvalidRequest(f"input '{tensor.name}' has shape {list(shape)} of rank {len(shape)}; {expected}")
    for size, axis in zip(shape, tensor.shape, strict=True):
        if size < 1:
            raise InvalidRequest(f"input '{tensor.name}' has shape {list(shape)} with nothing in it; {expected}")
        if isinstance(axis, int) and size != axis:
            raise InvalidRequest(f"input '{tensor.name}' has shape {list(shape)}; {expected}")


def _values(message: oip.ModelInferRequest, index: int, tensor: Tensor) -> Array:
    sent = message.inputs[index]
    if message.raw_input_contents:
        if len(message.raw_input_contents) != len(message.inputs):
            raise InvalidRequest(
                f"raw_input_contents has {len(message.raw_input_contents)} entries for {len(message.inputs)} inputs; "
                "send one for each, or typed contents for all"
            )
        if sent.HasField("contents"):
            raise InvalidRequest(f"input '{tensor.name}' has typed contents beside raw_input_contents; send one form")
        raw = message.raw_input_contents[index]
        if len(raw) % tensor.dtype.itemsize:
            raise InvalidRequest(
                f"input '{tensor.name}' has {len(raw)} raw bytes, no whole number of {tensor.datatype} values "
                f"({tensor.dtype.itemsize} bytes each)"
            )
        return np.frombuffer(raw, tensor.dtype)
    contents = sent.contents
    match tensor.datatype:
        case "FP32":
            return np.array(contents.fp32_contents, tensor.dtype)
        case "INT32":
            return np.array(contents.int_contents, tensor.dtype)
        case "INT64":
            return np.array(contents.int64_contents, tensor.dtype)


def _common_size(arrays: Arrays, tensors: Mapping[str, Tensor], *, axis: str, limit: int, knob: str) -> int:
    """Return the size that all inputs agree on along one named axis."""
    word = "rows" if axis == BATCH else "steps"
    sizes = {
        name: array.shape[tensors[name].shape.index(axis)]
        for name, array in arrays.items()
        if axis in tensors[name].shape
    }
    if len(set(sizes.values())) > 1:
        raise InvalidRequest(f"inputs differ in {word}: {sizes}; expected the same number in all of them")
    size = next(iter(sizes.values()))
    if size > limit:
        raise InvalidRequest(f"the request has {size} {word}; this model takes at most {limit} ({knob} in model.yaml)")
    return int(size)


def _lengths(sent: Array | None, manifest: Manifest, *, rows: int, time: int) -> NDArray[np.int64]:
    if sent is None:
        return np.full(rows, time, np.int64)
    if sent.min() < 1 or sent.max() > time:
        raise InvalidRequest(
            f"input '{manifest.lengths_input}' has values from {sent.min()} to {sent.max()}; expected 1 to {time}, the "
            "steps that were sent"
        )
    if manifest.equal_lengths and sent.min() != sent.max():
        raise InvalidRequest(
            f"model '{manifest.name}' takes rows of one length per request (its answers would change with padding); "
            f"input '{manifest.lengths_input}' has {sent.min()} to {sent.max()}"
        )
    return sent


def _checked_values(
    tensor: Tensor, array: Array, lengths: NDArray[np.int64], manifest: Manifest, policy: Policy
) -> Array:
    """Return the array with zeros beyond each row's length, finite, and within the calibrated range."""
    if tensor.follows_time and lengths.min() < array.shape[1]:
        beyond = np.arange(array.shape[1]) >= lengths[:, None]
        array = array.copy()
        array[beyond] = 0
    if tensor.datatype != "FP32":
        _check_vocabulary(tensor, array)
        return array
    smallest, largest = float(array.min()), float(array.max())  # NaN wins both
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise InvalidRequest(f"input '{tensor.name}' holds {array[tuple(where)]} at {where}; expected finite numbers")
    if manifest.precision != "int8" or tensor.name not in manifest.input_range or policy.out_of_range == "allow":
        return array
    low, high = manifest.input_range[tensor.name]
    low, high = min(low, 0.0), max(high, 0.0)  # padding is zero, and every activation scale covers it
    if low <= smallest and largest <= high:
        return array
    if policy.out_of_range == "clip":
        return np.clip(array, low, high)
    raise InvalidRequest(
        f"input '{tensor.name}' has values from {smallest:g} to {largest:g}; this INT8 model was calibrated on {low:g} "
        f"to {high:g} and its model.yaml refuses others (out_of_range)"
    )


def _check_vocabulary(tensor: Tensor, array: Array) -> None:
    """Refuse indices outside the table: the engine would fail on them, or count negative ones from the end."""
    if tensor.vocabulary is None:
        return
    outside = (array < 0) | (array >= tensor.vocabulary)
    if outside.any():
        where = np.argwhere(outside)[0].tolist()
        raise InvalidRequest(
            f"input '{tensor.name}' holds {array[tuple(where)]} at {where}; expected 0 to {tensor.vocabulary - 1}, the "
            "indices of the model's table"
        )
