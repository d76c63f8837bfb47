"""The requests that are sent: real sequences where there are some, or noise; each made once and sent many times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.lengths import Distribution, read_distribution, spread_evenly
from loadtests.traffic.plan import Choice
from loadtests.traffic.served import DTYPES, Input, ServedModel
from serving._proto import open_inference_pb2 as oip

SAMPLES = 256
"""Of each model, at most."""
SYNTHETIC_LENGTHS = "lognormal:30,0.7,2,200"
"""Of a model of which there are no real sequences."""
LENGTHS = "lengths"

Rows = Sequence[Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A request of one row, and the answer to it.

    Attributes:
        model: its name.
        steps: of the sequence.
        request: the message.
        state: name of the tensor that a stream of it carries; empty if it cannot be sent piece by piece.
        timed: names of the inputs that a piece has a piece of.
        answer: the message that the request is answered with when it is alone; None: nothing to compare with.
    """

    model: str
    steps: int
    request: oip.ModelInferRequest
    state: str
    timed: tuple[str, ...]
    answer: oip.ModelInferResponse | None = None

    @property
    def choice(self) -> Choice:
        """What a plan needs to know of it."""
        return Choice(self.model, self.steps, can_stream=bool(self.state))

    def answered(self, answer: oip.ModelInferResponse) -> "Sample":
        """Return the same with its answer."""
        return replace(self, answer=answer)

    def pieces(self, steps: int) -> list[oip.ModelInferRequest]:
        """Return the requests of a stream: each the next so many steps of the sequence, the last one maybe fewer."""
        return [self._piece(start, min(start + steps, self.steps)) for start in range(0, self.steps, steps)]

    def _piece(self, start: int, end: int) -> oip.ModelInferRequest:
        piece = oip.ModelInferRequest(model_name=self.request.model_name, model_version=self.request.model_version)
        for tensor, content in zip(self.request.inputs, self.request.raw_input_contents, strict=True):
            part = piece.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if tensor.name in self.timed:
                width = len(content) // self.steps
                part.shape[1] = end - start
                piece.raw_input_contents.append(content[start * width : end * width])
            else:
                piece.raw_input_contents.append(content)
        return piece


def make_samples(
    models: Sequence[ServedModel],
    *,
    data: Path | None,
    lengths: str | None,
    traced: Mapping[str, Sequence[int]] | None,
    rng: np.random.Generator,
) -> list[Sample]:
    """Make the requests of every model.

    Args:
        models: that are asked.
        data: folder where `NAME-test.npz` has real sequences of the model NAME, as `training` leaves them.
        lengths: distribution of steps, as `read_distribution` takes it; None: as the real ones are.
        traced: the steps that a trace asks of each model, in place of a distribution.
        rng: of what is drawn.

    Raises:
        TrafficError: a file of sequences does not fit its model, or a sequence is longer than its model takes.
    """
    distribution = None if lengths is None else read_distribution(lengths)
    samples = []
    for model in models:
        rows = _real_rows(model, data)
        chosen = _lengths(model, rows, distribution, None if traced is None else traced[model.name])
        if too_long := [steps for steps in chosen if steps > model.most_steps]:
            raise TrafficError(
                f"'{model.name}' takes sequences of at most {model.most_steps} steps (max_steps in its model.yaml); "
                f"{max(too_long)} are asked for"
            )
        order = rng.permutation(len(rows)).tolist()
        for number, steps in enumerate(chosen):
            row = rows[order[number % len(rows)]] if rows else None
            samples.append(_sample(model, steps, row, rng))
    return samples


def _lengths(
    model: ServedModel, rows: Rows, distribution: Distribution | None, traced: Sequence[int] | None
) -> Sequence[int]:
    if traced is not None:
        return sorted(set(traced))
    if distribution is None and rows:
        timed = next(tensor.name for tensor in model.inputs if tensor.follows_time)
        known = sorted(len(row[timed]) for row in rows)
        return [known[int(place)] for place in np.linspace(0, len(known) - 1, min(SAMPLES, len(known)))]
    return spread_evenly(distribution or read_distribution(SYNTHETIC_LENGTHS), SAMPLES)


def _sample(model: ServedModel, steps: int, row: Mapping[str, NDArray[Any]] | None, rng: np.random.Generator) -> Sample:
    request = oip.ModelInferRequest(model_name=model.name, model_version=model.version)
    for tensor in model.inputs:
        shape = [steps if axis < 0 else axis for axis in tensor.axes]
        # A sequence that is longer than the real one begins again.
        values = _noise(tensor, shape, rng) if row is None else np.resize(row[tensor.name], shape)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1, *shape])
        request.raw_input_contents.append(values.astype(DTYPES[tensor.datatype]).tobytes())
    timed = tuple(tensor.name for tensor in model.inputs if tensor.follows_time)
    return Sample(model=model.name, steps=steps, request=request, state=model.state, timed=timed)


def _noise(tensor: Input, shape: Sequence[int], rng: np.random.Generator) -> NDArray[Any]:
    if tensor.datatype == "FP32":
        return rng.normal(size=shape)
    return rng.integers(tensor.tokens, size=shape)


def _real_rows(model: ServedModel, data: Path | None) -> Rows:
    """Return the sequences of a model without their padding; none if there is no file of them."""
    path = None if data is None else data / f"{model.name}-test.npz"
    if path is None or not path.exists():
        return []
    wanted = [tensor.name for tensor in model.inputs]
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (LENGTHS, *wanted)}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise TrafficError(
            f"{path}: has no sequences for '{model.name}' ({error}); expected arrays {', '.join((LENGTHS, *wanted))}"
        ) from error
    for tensor in model.inputs:
        found = arrays[tensor.name].shape[1:]
        fits = len(found) == len(tensor.axes) and all(
            axis in {-1, size} for axis, size in zip(tensor.axes, found, strict=True)
        )
        if not fits:
            raise TrafficError(f"{path}: '{tensor.name}' has the axes {found} behind the rows; expected {tensor.axes}")
    return [
        {
            tensor.name: arrays[tensor.name][number][:steps] if tensor.follows_time else arrays[tensor.name][number]
            for tensor in model.inputs
        }
        for number, steps in enumerate(arrays[LENGTHS].tolist())
    ]
