"""What is sent: requests whose answers are known, because the server gave them when it had nothing else to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from loadtests.answers import Served, agrees

SEED = 0
CASES = 48
"""Different requests of a model version; they are sent again and again."""
MEDIAN_STEPS, SPREAD = 30, 0.7
"""Lengths are log-normal: their median, and the standard deviation of their logarithm."""
SHORTEST, LONGEST = 2, 200
MOST_ROWS = 4
FEW_TOKENS = 2
"""Of integers only those are sent that every table has; the protocol does not tell how many there are."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request, and what it must be answered.

    Attributes:
        model: its name.
        version: of it, which the request names.
        inputs: for tritonclient.
        answer: float outputs by name; empty if answers of this version depend on company (INT8 by ONNX Runtime).
    """

    model: str
    version: str
    inputs: Sequence[triton.InferInput]
    answer: Mapping[str, Floats]

    def is_right(self, result: triton.InferResult) -> bool:
        """Return whether an answer is the one that the request gets alone."""
        for name, expected in self.answer.items():
            found = result.as_numpy(name)
            if found is None or not agrees(found, expected):
                return False
        return True


def make_cases(client: triton.InferenceServerClient, served: Sequence[Served]) -> list[Case]:
    """Draw requests for every version that serves, and have each answered once, alone.

    Args:
        client: of a server that has nothing else to do.
        served: every version.
    """
    rng = np.random.default_rng(SEED)
    cases = []
    for each in served:
        model, version = each.model, each.version
        metadata = client.get_model_metadata(model, version)
        for _ in range(CASES):
            inputs = _draw(rng, metadata)
            result = client.infer(model, inputs, model_version=version)
            floats = [output.name for output in metadata.outputs if output.datatype == "FP32"]
            answer = {} if each.depends_on_company else {name: result.as_numpy(name) for name in floats}
            cases.append(Case(model=model, version=version, inputs=inputs, answer=answer))
    return cases


def malformed(case: Case, rng: np.random.Generator) -> Sequence[triton.InferInput]:
    """Return the inputs of a case with something wrong: a value, a name, a datatype, a shape or a byte too few."""
    first, *others = case.inputs
    shape, datatype = list(first.shape()), first.datatype()
    raw = first._get_content()  # noqa: SLF001  tritonclient has no other way to what was set
    match int(rng.integers(5)):
        case 0:
            wrong = _raw_input(first.name(), shape, datatype, b"\xff" * len(raw))  # NaN, or outside any table
        case 1:
            wrong = _raw_input("no-such-input", shape, datatype, raw)
        case 2:
            wrong = _raw_input(first.name(), shape, "FP64", raw)
        case 3:
            wrong = _raw_input(first.name(), [*shape[:-1], shape[-1] + 1], datatype, raw)
        case _:
            wrong = _raw_input(first.name(), shape, datatype, raw[:-1])
    return [wrong, *others]


def _draw(rng: np.random.Generator, metadata: object) -> list[triton.InferInput]:
    rows = int(rng.integers(1, MOST_ROWS + 1))
    steps = int(np.clip(rng.lognormal(np.log(MEDIAN_STEPS), SPREAD), SHORTEST, LONGEST))
    inputs = []
    for tensor in metadata.inputs:  # type: ignore[attr-defined]  # tritonclient's messages have no types
        shape = [rows, *(steps if axis < 0 else int(axis) for axis in tensor.shape[1:])]
        if tensor.datatype == "FP32":
            values: NDArray[np.generic] = rng.normal(size=shape).astype(np.float32)
        else:
            values = rng.integers(FEW_TOKENS, size=shape).astype(
                {"INT32": np.int32, "INT64": np.int64}[tensor.datatype]
            )
        made = triton.InferInput(tensor.name, shape, tensor.datatype)
        made.set_data_from_numpy(values)
        inputs.append(made)
    return inputs


def _raw_input(name: str, shape: Sequence[int], datatype: str, raw: bytes) -> triton.InferInput:
    made = triton.InferInput(name, list(shape), datatype)
    made._raw_content = raw  # noqa: SLF001  tritonclient refuses by itself to send what is malformed
    return made
