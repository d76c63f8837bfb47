"""What requests must be answered: asked of the idle server before the load, or kept in a file from an earlier time."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from loadtests.answers import agrees
from loadtests.traffic.errors import TrafficError
from loadtests.traffic.records import RIGHT, UNCHECKED, WRONG
from loadtests.traffic.samples import Sample
from loadtests.traffic.served import DTYPES, OPTIONS, ServedModel, metadata_of
from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.status.target import Target

SECONDS = 60.0
"""That the idle server may take for one."""


def with_answers(  # noqa: PLR0913  a sentence of keywords
    samples: Sequence[Sample],
    models: Sequence[ServedModel],
    target: Target,
    *,
    count: int,
    file: Path | None,
    progress: Callable[[int, int], None],
) -> list[Sample]:
    """Return the samples, some of each model with the answers that they must get.

    Args:
        samples: all that are sent.
        models: that they ask.
        target: a server that has nothing else to do.
        count: of each model that are compared, evenly over its samples; none of models whose answers cannot be.
        file: of answers: read if it is there, and else written; None: neither.
        progress: told how many of how many were asked.

    Raises:
        TrafficError: the server fails on one, or the file holds no answer to one.
    """
    chosen = _chosen(samples, models, count)
    kept = read_answers(file) if file is not None and file.exists() else None
    answered = list(samples)
    with grpc.insecure_channel(target.address, OPTIONS) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for done, number in enumerate(chosen, 1):
            sample = samples[number]
            if kept is None:
                answer = _ask(stub, target, sample)
            elif (found := kept.get(_key(sample))) is not None:
                answer = found
            else:
                raise TrafficError(
                    f"{file}: holds no answer to a request of {sample.steps} steps for '{sample.model}'; it was made "
                    "with other models, data, lengths or seed: remove it, and the answers are asked anew"
                )
            answered[number] = sample.answered(answer)
            progress(done, len(chosen))
    if file is not None and kept is None:
        write_answers(file, [answered[number] for number in chosen])
    return answered


def verdict_of(answer: oip.ModelInferResponse, expected: oip.ModelInferResponse | None, *, state: str = "") -> int:
    """Compare an answer with what the request gets alone: `RIGHT`, `WRONG` or `UNCHECKED`.

    Args:
        answer: that came.
        expected: that should have; None if that is not known.
        state: name of an output that is not compared: it is for the server alone.
    """
    if expected is None:
        return UNCHECKED
    found = {output.name: place for place, output in enumerate(answer.outputs)}
    for number, output in enumerate(expected.outputs):
        if output.name == state:
            continue
        place = found.get(output.name)
        if place is None or answer.outputs[place].datatype != output.datatype:
            return WRONG
        contents = answer.raw_output_contents[place], expected.raw_output_contents[number]
        if answer.outputs[place].shape != output.shape:
            return WRONG
        dtype = DTYPES.get(output.datatype)
        if dtype is None:
            if contents[0] != contents[1]:
                return WRONG
        elif len(contents[0]) != len(contents[1]) or not agrees(*(np.frombuffer(each, dtype) for each in contents)):
            return WRONG
    return RIGHT


def joined(pieces: Sequence[oip.ModelInferResponse], expected: oip.ModelInferResponse) -> oip.ModelInferResponse:
    """Return the answers to the pieces of one sequence as the answer to the whole, to be compared with `expected`.

    An output whose second axis is longer in the whole than in the last piece follows time and is put together; of
    others the last piece's counts.
    """
    last = pieces[-1]
    whole = oip.ModelInferResponse()
    wanted = {output.name: output for output in expected.outputs}
    for place, output in enumerate(last.outputs):
        shape = list(output.shape)
        content = last.raw_output_contents[place]
        steps = [piece.outputs[place].shape[1] for piece in pieces] if len(shape) > 1 else []
        target = wanted.get(output.name)
        if steps and target is not None and len(target.shape) > 1 and target.shape[1] == sum(steps) and len(pieces) > 1:
            shape[1] = sum(steps)
            content = b"".join(piece.raw_output_contents[place] for piece in pieces)
        whole.outputs.add(name=output.name, datatype=output.datatype, shape=shape)
        whole.raw_output_contents.append(content)
    return whole


def read_answers(path: Path) -> dict[str, oip.ModelInferResponse]:
    """Read a file of answers.

    Raises:
        TrafficError: it is none.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {key: oip.ModelInferResponse.FromString(file[key].tobytes()) for key in file.files}
    except (OSError, ValueError, EOFError, BadZipFile, DecodeError) as error:
        raise TrafficError(f"{path}: cannot be read as a file of expected answers ({error}); remove it") from error


def write_answers(path: Path, samples: Sequence[Sample]) -> None:
    """Write the samples' answers by the requests' checksums."""
    answers = {
        _key(sample): np.frombuffer(sample.answer.SerializeToString(), np.uint8)
        for sample in samples
        if sample.answer is not None
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **answers)


def _chosen(samples: Sequence[Sample], models: Sequence[ServedModel], count: int) -> list[int]:
    chosen: list[int] = []
    for model in models:
        mine = [number for number, sample in enumerate(samples) if sample.model == model.name]
        if mine and count and not model.unchecked:
            chosen += sorted({mine[int(place)] for place in np.linspace(0, len(mine) - 1, min(count, len(mine)))})
    return chosen


def _ask(stub: GRPCInferenceServiceStub, target: Target, sample: Sample) -> oip.ModelInferResponse:
    try:
        return stub.ModelInfer(sample.request, timeout=SECONDS, metadata=metadata_of(target))
    except grpc.RpcError as error:
        raise TrafficError(
            f"{target.address} fails on a request of {sample.steps} steps for '{sample.model}' while it is idle: "
            f"{error.code().name} ({error.details()})"
        ) from error


def _key(sample: Sample) -> str:
    return hashlib.sha256(sample.request.SerializeToString(deterministic=True)).hexdigest()[:32]
