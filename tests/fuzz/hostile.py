"""Requests with one or two fields that somebody has thought about. Some of the changes do no harm, and must not."""

import struct
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

from serving._proto import open_inference_pb2 as oip
from tests.fuzz.good import LARGEST_INT, MOST_ROWS, MOST_STEPS, SMALLEST_INT, Target, add, good

Request = oip.ModelInferRequest
Input = oip.ModelInferRequest.InferInputTensor
AXES = (0, -1, 1, 2, 3, 4, 65, 2**31 - 1, 2**31, 2**32, 2**62, LARGEST_INT, SMALLEST_INT)
DATATYPES = ("", "fp32", "Fp32", "FP32 ", "FP32\0", "FP16", "FP64", "BF16", "INT8", "INT32", "INT64", "UINT8", "UINT64",
             "BOOL", "BYTES", "\N{SNOWMAN}", "F" * 500)  # fmt: skip
NAMES = ("", "X", "x ", "x\0", "y", "state", "lengths", "token", "\N{SNOWMAN}", "input.x", "../x", "n" * 2000)
VERSIONS = (
    "1",
    "01",
    "+1",
    "-1",
    "1.0",
    " 1",
    "2",
    "0",
    "9" * 30,
    "\N{FULLWIDTH DIGIT ONE}",
    "\N{SUPERSCRIPT ONE}",
    "one",
)
PARAMETERS = ("timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "binary_data_output", "",
              "\N{SNOWMAN}", "p" * 500)  # fmt: skip
NUMBERS = (0, 1, 5, 9, 10, -1, 2**31, 2**53, 2**53 + 1, LARGEST_INT, SMALLEST_INT)
FLOATS = (float("nan"), float("inf"), float("-inf"), 3.4e38, -3.4e38, 1e-45, 0.0, -0.0, 2.5)


def shapes(rng: Random, target: Target) -> Request:
    """Axes that are nothing, less than nothing, or so many that their product comes out right modulo 2^64."""
    request = good(rng, target)
    shape = _any_input(rng, request).shape

    def overflow() -> None:
        shape[:] = [2**32, 2**32, *shape[2:]] if rng.random() < 0.5 else [LARGEST_INT] * len(shape)

    _pick(
        rng,
        lambda: shape.__setitem__(rng.randrange(len(shape)), rng.choice(AXES)),
        lambda: shape.__setitem__(rng.randrange(len(shape)), rng.choice(AXES)),
        lambda: shape.insert(rng.randint(0, len(shape)), 1),
        lambda: shape.pop(rng.randrange(len(shape))),
        lambda: shape.__delitem__(slice(None)),
        shape.reverse,
        lambda: shape.extend([1] * rng.choice((1, 40, 400))),
        lambda: shape.__setitem__(slice(2), [-axis for axis in shape[:2]]),  # their product is right
        overflow,
    )
    return request


def sizes(rng: Random, target: Target) -> Request:
    """Rows and steps on both sides of the model's limits."""
    rows, steps = rng.choice((1, MOST_ROWS, MOST_ROWS + 1)), rng.choice((1, MOST_STEPS, MOST_STEPS + 1))
    request = good(rng, target, rows=rows, steps=steps)
    if len(target.manifest.inputs) > 1 and rng.random() < 0.4:  # inputs of two requests, each good by itself
        other = good(rng, target, rows=rng.choice((rows, 2)), steps=rng.choice((steps, 2)), typed=False)
        if len(request.raw_input_contents) == len(request.inputs):
            index = {tensor.name: number for number, tensor in enumerate(request.inputs)}[other.inputs[0].name]
            request.inputs[index].CopyFrom(other.inputs[0])
            request.raw_input_contents[index] = other.raw_input_contents[0]
    return request


def datatypes(rng: Random, target: Target) -> Request:
    """Types that are another, unknown, or not quite written as they should be."""
    request = good(rng, target)
    _any_input(rng, request).datatype = rng.choice((*DATATYPES, "FP32", "FP32", "FP32"))
    return request


def contents(rng: Random, target: Target) -> Request:
    """Contents of the wrong length, of the wrong kind, of both kinds, or of none."""
    typed = rng.random() < 0.4
    request = good(rng, target, typed=typed)
    raw = request.raw_input_contents
    some = _any_input(rng, request)
    cut: Sequence[Callable[[], object]] = (lambda: None,)
    if not typed:
        at = rng.randrange(len(raw))
        cut = (
            lambda: raw.__setitem__(at, raw[at][: -rng.choice((1, 2, 4, 8))]),
            lambda: raw.__setitem__(at, raw[at] + bytes(rng.choice((1, 3, 4, 8, 12, 4096)))),
            lambda: raw.__setitem__(at, b""),
            lambda: raw.pop(at),
            lambda: raw.append(b""),
            raw.reverse,
            lambda: some.contents.fp32_contents.append(1.0),
            some.contents.SetInParent,
        )
    _pick(
        rng,
        *cut,
        lambda: some.contents.fp32_contents.append(1.0),
        lambda: some.contents.int64_contents.append(rng.choice(NUMBERS)),
        lambda: some.contents.bytes_contents.append(b"\xff"),
        lambda: some.contents.uint_contents.extend([1] * 100),
        lambda: some.ClearField("contents"),
        lambda: raw.append(bytes(12)) if typed else None,
    )
    return request


def inputs(rng: Random, target: Target) -> Request:
    """Inputs that are there twice, not at all, or under another name."""
    request = good(rng, target)
    raw = bool(request.raw_input_contents)
    at = rng.randrange(len(request.inputs))

    def repeat(times: int) -> None:
        for _ in range(times):
            request.inputs.add().CopyFrom(request.inputs[at])
            if raw:
                request.raw_input_contents.append(request.raw_input_contents[at])

    def leave_out() -> None:
        request.inputs.pop(at)
        if raw:
            request.raw_input_contents.pop(at)

    def add_lengths() -> None:
        rows = request.inputs[at].shape[0]
        add(request, "lengths", "INT64", [rows], [1] * rows, typed=not raw)

    _pick(
        rng,
        lambda: repeat(1),
        lambda: repeat(rng.choice((2, 300))),
        leave_out,
        lambda: setattr(request.inputs[at], "name", rng.choice(NAMES)),
        lambda: request.ClearField("inputs"),
        lambda: add(request, rng.choice(NAMES), "FP32", [1, 1, 3], [1.0] * 3, typed=not raw),
        add_lengths,
        request.inputs.reverse,
    )
    return request


def parameters(rng: Random, target: Target) -> Request:
    """Parameters of every type where one of another type is meant, of the request and of its tensors."""
    request = good(rng, target)
    request.parameters.clear()
    for _ in range(rng.randint(1, 2)):
        _set_anything(rng, request.parameters[rng.choice(PARAMETERS)])
    if rng.random() < 0.2:
        side: Any = rng.choice((request.inputs, request.outputs)) if request.outputs else request.inputs
        name = rng.choice(("shared_memory_region", "classification", "binary_data", "binary_data_size"))
        _set_anything(rng, rng.choice(side).parameters[name])
    return request


def outputs(rng: Random, target: Target) -> Request:
    """Outputs that the model does not have, or has under another name, or many times the same."""
    request = good(rng, target)
    for _ in range(rng.choice((1, 2, 50))):
        request.outputs.add(name=rng.choice((*NAMES, *target.outputs * 6)))
    return request


def values(rng: Random, target: Target) -> Request:
    """Numbers that are none, or too large, or too small, or indices of nothing."""
    request = good(rng, target, typed=False)
    if not any(tensor.name == "lengths" for tensor in request.inputs) and rng.random() < 0.3:
        rows = request.inputs[0].shape[0]
        add(request, "lengths", "INT64", [rows], [rng.randint(1, 2) for _ in range(rows)], typed=False)
    at = rng.randrange(len(request.inputs))
    datatype, content = request.inputs[at].datatype, bytearray(request.raw_input_contents[at])
    if datatype == "FP32":
        struct.pack_into("<f", content, 4 * rng.randrange(len(content) // 4), rng.choice(FLOATS))
    elif datatype == "INT64":
        number = rng.choice((*NUMBERS, 2, 3, 4))
        struct.pack_into("<q", content, 8 * rng.randrange(len(content) // 8), number)
    request.raw_input_contents[at] = bytes(content)
    return request


def states(rng: Random, target: Target) -> Request:
    """States of other models, of other sizes, with other values; and a state for a model that keeps none."""
    rows = rng.randint(1, 3)
    request = good(rng, target, rows=rows, typed=False)
    if any(tensor.name == "state" for tensor in request.inputs):
        at = len(request.inputs) - 1
    else:
        width, content = 48, bytes(48 * rows)
        if target.token is not None:
            width = target.token.width
            content = target.token.write(np.zeros((rows, target.state_floats), np.float32))
        request.inputs.add(name="state", datatype="UINT8", shape=[rows, width])
        request.raw_input_contents.append(content)
        at = len(request.inputs) - 1
    state, raw = request.inputs[at], request.raw_input_contents
    wide = state.shape[1]

    def resize(width: int) -> None:
        state.shape[1] = width
        raw[at] = (raw[at] * 3)[: max(0, width) * rows]

    def regrow(count: int) -> None:
        state.shape[0] = count
        raw[at] = (raw[at] * 5)[: wide * count]

    def overwrite(offset: int, content: bytes) -> None:
        raw[at] = raw[at][:offset] + content + raw[at][offset + len(content) :]

    _pick(
        rng,
        lambda: None,
        lambda: overwrite(rng.randrange(16), b"\x55\xaa"),
        lambda: overwrite(16, struct.pack("<f", rng.choice(FLOATS))),
        lambda: resize(rng.choice((0, 1, 15, 16, 17, wide - 4, wide + 4))),
        lambda: regrow(rng.choice((1, 2, 3, 4))),
        lambda: state.shape.__setitem__(rng.randrange(2), rng.choice(AXES)),
        lambda: state.shape.__setitem__(slice(None), [-rows, -wide]),
        lambda: setattr(state, "datatype", rng.choice(DATATYPES)),
        lambda: raw.__setitem__(at, raw[at][:-1]),
        lambda: state.shape.append(1),
        lambda: state.contents.uint_contents.append(1),
        lambda: _set_anything(rng, state.parameters[rng.choice(("shared_memory_region", "binary_data_size"))]),
        lambda: request.ClearField("raw_input_contents"),
    )
    return request


def names(rng: Random, target: Target) -> Request:
    """Models and versions that there are not, or that are written otherwise."""
    request = good(rng, target)
    if rng.random() < 0.5:
        name = target.manifest.name
        request.model_name = rng.choice(
            (name, name, "", name.upper(), f"{name} ", f"../{name}", f"{name}\0", "m" * 5000)
        )
    else:
        request.model_version = rng.choice(VERSIONS)
    return request


HOSTILE: Mapping[str, Callable[[Random, Target], Request]] = {
    made.__name__: made
    for made in (shapes, sizes, datatypes, contents, inputs, parameters, outputs, values, states, names)
}


def _any_input(rng: Random, request: Request) -> Input:
    return request.inputs[rng.randrange(len(request.inputs))]


def _pick(rng: Random, *edits: Callable[[], object]) -> None:
    rng.choice(edits)()


def _set_anything(rng: Random, parameter: oip.InferParameter) -> None:
    """Set a parameter to a value of any type, or to none at all."""
    _pick(
        rng,
        lambda: setattr(parameter, "bool_param", rng.random() < 0.5),
        lambda: setattr(parameter, "int64_param", rng.choice(NUMBERS)),
        lambda: setattr(parameter, "uint64_param", rng.choice((0, 1, 9, 10, 2**53, 2**64 - 1))),
        lambda: setattr(parameter, "string_param", rng.choice(("", "1", "\N{SNOWMAN}", "s" * 5000))),
        lambda: setattr(parameter, "double_param", rng.choice(FLOATS)),
        parameter.SetInParent,
    )
