"""ModelInfer messages to checked rows. Pure: no I/O, no context, no model but its description.

Everything that a client can get wrong is refused here, before it could enter a batch. Source of the rules: Open
Inference Protocol v2 (tensor contents: raw and typed exclude each other for the whole message; raw is little-endian,
row-major, in the order of the inputs).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.manifest import BATCH, TIME, Manifest, Tensor
from serving.policy import Policy
from serving.tensors import Array, Rows
from serving.wire.outputs import listed
from serving.wire.parameters import check_parameters, refuse_parameters
from serving.wire.state import StateToken


class Decoder:
    """Checks and views the requests of one model version.

    Made once per version: what a request is compared with does not change, and looking it up for every request would
    take longer than the comparison.
    """

    def __init__(self, manifest: Manifest, policy: Policy) -> None:
        self._manifest = manifest
        self._policy = policy
        self._state = None if manifest.state is None else StateToken(manifest, manifest.state)
        self._required = [tensor.name for tensor in manifest.inputs]
        self._known = {tensor.name: _Expected(tensor) for tensor in manifest.inputs}
        if manifest.lengths_input is not None:
            lengths = Tensor(name=manifest.lengths_input, datatype="INT64", shape=(BATCH,))
            self._known[lengths.name] = _Expected(lengths)
        self._range = calibrated_ranges(manifest, policy)

    def decode(self, message: oip.ModelInferRequest) -> Rows:
        """Check a request against the model's description and limits, and view its raw tensors without copying them.

        Returns:
            The rows, finite, and zero beyond each row's length.

        Raises:
            InvalidRequest: names the tensor, what came, and what was expected.
            StateMismatch: the state that it goes on from is another model version's.
        """
        if message.parameters:
            check_parameters(message)
        names = [tensor.name for tensor in message.inputs]
        if names != self._required:
            self._check_names(names)
        if message.raw_input_contents and len(message.raw_input_contents) != len(names):
            raise InvalidRequest(
                f"raw_input_contents has {len(message.raw_input_contents)} entries for {len(names)} inputs; "
                "send one for each, or typed contents for all"
            )
        state: Array | None = None
        arrays: dict[str, Array] = {}
        for index, name in enumerate(names):
            if name in self._known:
                arrays[name] = _array(message, index, self._known[name])
            else:
                assert self._state is not None, "names were checked"
                state = self._state.view(message, index)
        rows, time = self._sizes(arrays)
        sent = arrays.pop(self._manifest.lengths_input or "", None)
        lengths = np.array([time] * rows, np.int64) if sent is None else self._lengths(sent, time)
        beyond = None if sent is None else np.arange(time) >= lengths[:, None]
        inputs = {name: self._checked(self._known[name].tensor, array, beyond) for name, array in arrays.items()}
        states = None if state is None or self._state is None else self._state.read(state, rows=rows)
        return Rows(inputs=inputs, lengths=lengths, time=time, state=states)

    def _check_names(self, names: list[str]) -> None:
        """Refuse missing, unknown and repeated names."""
        manifest = self._manifest
        expected = f"model '{manifest.name}' takes {listed(self._required)}"
        if not names:
            raise InvalidRequest(f"the request has no inputs; {expected}")
        for name in names:
            if name not in self._known and (self._state is None or name != self._state.name):
                if name == "state" and self._state is None:
                    raise InvalidRequest(
                        f"model '{manifest.name}' cannot go on from a state: it is not stepwise and needs each "
                        "sequence whole; leave the input out"
                    )
                raise InvalidRequest(f"unknown input '{name}'; {expected}")
            if names.count(name) > 1:
                raise InvalidRequest(f"input '{name}' was sent {names.count(name)} times; {expected}")
        for name in self._required:
            if name not in names:
                raise InvalidRequest(f"input '{name}' is missing; {expected}")

    def _sizes(self, arrays: Mapping[str, Array]) -> tuple[int, int]:
        """Return the rows and steps that all inputs agree on."""
        known, policy = self._known, self._policy
        rows = {name: array.shape[0] for name, array in arrays.items()}
        steps = {name: array.shape[1] for name, array in arrays.items() if known[name].follows_time}
        return (
            _agreed("rows", rows, policy.max_request_rows, "max_request_rows"),
            _agreed("steps", steps, policy.max_steps, "max_steps"),
        )

    def _lengths(self, sent: NDArray[np.int64], time: int) -> NDArray[np.int64]:
        manifest = self._manifest
        if sent.min() < 1 or sent.max() > time:
            raise InvalidRequest(
                f"input '{manifest.lengths_input}' has values from {sent.min()} to {sent.max()}; expected 1 to {time}, "
                "the steps that were sent"
            )
        if manifest.equal_lengths and sent.min() != sent.max():
            raise InvalidRequest(
                f"model '{manifest.name}' takes rows of one length per request (its answers would change with "
                f"padding); input '{manifest.lengths_input}' has {sent.min()} to {sent.max()}"
            )
        return sent

    def _checked(self, tensor: Tensor, array: Array, beyond: NDArray[np.bool_] | None) -> Array:
        """Return the array with zeros beyond each row's length, finite, and within the calibrated range."""
        if beyond is not None and tensor.follows_time and beyond.any():
            array = array.copy()
            array[beyond] = 0
        if tensor.datatype != "FP32":
            _check_vocabulary(tensor, array)
            return array
        check_finite(tensor.name, array)
        if tensor.name not in self._range:
            return array
        smallest, largest = float(array.min()), float(array.max())
        low, high = self._range[tensor.name]
        if low <= smallest and largest <= high:
            return array
        if self._policy.out_of_range == "clip":
            return np.clip(array, low, high)
        raise InvalidRequest(
            f"input '{tensor.name}' has values from {smallest:g} to {largest:g}; this INT8 model was calibrated on "
            f"{low:g} to {high:g} and its model.yaml refuses others (out_of_range)"
        )


def calibrated_ranges(manifest: Manifest, policy: Policy) -> dict[str, tuple[float, float]]:
    """Return, by name, the range that the values of an input must lie in; nothing for inputs that have none."""
    if manifest.precision != "int8" or policy.out_of_range == "allow":
        return {}
    # padding is zero, and every activation scale covers it
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in manifest.input_range.items()}


class _Expected:
    """What one input must be, looked up once."""

    __slots__ = ("datatype", "dtype", "fixed", "follows_time", "itemsize", "rank", "tensor", "text")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.datatype = tensor.datatype
        self.dtype = tensor.dtype
        self.itemsize = tensor.dtype.itemsize
        self.rank = len(tensor.shape)
        self.follows_time = tensor.follows_time
        self.fixed = [(position, axis) for position, axis in enumerate(tensor.shape) if isinstance(axis, int)]
        words = {BATCH: "rows", TIME: "steps"}
        self.text = f"expected [{', '.join(words.get(str(axis), str(axis)) for axis in tensor.shape)}]"


def _agreed(word: str, found: Mapping[str, int], limit: int, setting: str) -> int:
    """Return the one number that all inputs have."""
    sizes = list(found.values())
    size = sizes[0]
    if len(sizes) > 1 and sizes != [size] * len(sizes):
        raise InvalidRequest(f"inputs differ in {word}: {found}; expected the same number in all of them")
    if size > limit:
        raise InvalidRequest(
            f"the request has {size} {word}; this model takes at most {limit} ({setting} in model.yaml)"
        )
    return size


def check_finite(name: str, array: Array) -> None:
    """Refuse NaN and infinities.

    The sum of squares is finite only if all values are, and takes one pass without a copy. It may overflow on its own,
    so what is not finite is looked at once more. numpy's warnings of either would be lines of ours that clients write.

    Raises:
        InvalidRequest: names the first value that is not finite, and where it is.
    """
    flat = array.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        squares = flat.dot(flat)
    if math.isfinite(squares):
        return
    where = np.argwhere(~np.isfinite(array))
    if len(where):
        first = where[0].tolist()
        raise InvalidRequest(f"input '{name}' holds {array[tuple(first)]} at {first}; expected finite numbers")


def _array(message: oip.ModelInferRequest, index: int, expected: _Expected) -> Array:
    """View one input as an array of its declared shape."""
    sent = message.inputs[index]
    name = sent.name
    if sent.parameters:
        refuse_parameters("input", name, sent.parameters)
    if sent.datatype != expected.datatype:
        raise InvalidRequest(f"input '{name}' has datatype '{sent.datatype}'; expected {expected.datatype}")
    shape = tuple(sent.shape)
    if len(shape) != expected.rank:
        raise InvalidRequest(f"input '{name}' has shape {list(shape)} of rank {len(shape)}; {expected.text}")
    if min(shape) < 1:
        raise InvalidRequest(f"input '{name}' has shape {list(shape)} with nothing in it; {expected.text}")
    for position, size in expected.fixed:
        if shape[position] != size:
            raise InvalidRequest(f"input '{name}' has shape {list(shape)}; {expected.text}")
    values = _values(message, index, expected)
    count = math.prod(shape)
    if len(values) != count:
        raise InvalidRequest(
            f"input '{name}' has {len(values)} values ({len(values) * expected.itemsize} bytes); "
            f"its shape {list(shape)} needs {count} ({count * expected.itemsize} bytes)"
        )
    return values.reshape(shape)


def _values(message: oip.ModelInferRequest, index: int, expected: _Expected) -> Array:
    sent = message.inputs[index]
    if message.raw_input_contents:
        if sent.HasField("contents"):
            raise InvalidRequest(f"input '{sent.name}' has typed contents beside raw_input_contents; send one form")
        raw = message.raw_input_contents[index]
        if len(raw) % expected.itemsize:
            raise InvalidRequest(
                f"input '{sent.name}' has {len(raw)} raw bytes, no whole number of {expected.datatype} values "
                f"({expected.itemsize} bytes each)"
            )
        return np.frombuffer(raw, expected.dtype)
    contents = sent.contents
    match expected.datatype:
        case "FP32":
            return np.array(contents.fp32_contents, expected.dtype)
        case "INT32":
            return np.array(contents.int_contents, expected.dtype)
        case "INT64":
            return np.array(contents.int64_contents, expected.dtype)


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
