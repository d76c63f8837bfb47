"""Calls to a running `lstm-serve` through tritonclient, as a user's program would make them."""

import queue
import threading
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from serving.clock import NANOSECONDS_PER_SECOND, SystemClock

IN_FLIGHT = 32
"""Requests at a time: enough for the server to have a choice when it forms a batch."""
ANSWER_SECONDS = 60.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One version of a model on a server.

    Attributes:
        address: `host:port`.
        output: name of the output that is read.
    """

    address: str
    model: str
    version: str
    output: str


def predict(endpoint: Endpoint, rows: list[Floats]) -> Floats:
    """Send each row as a request of its own, many at a time, and return the outputs in the rows' order.

    Args:
        endpoint: whom to ask.
        rows: float32[steps, features] each, of any lengths.

    Raises:
        InferenceServerException: the server refused a row.
    """
    done: queue.Queue[tuple[int, triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    room = threading.Semaphore(IN_FLIGHT)
    outputs: dict[int, Floats] = {}
    with triton.InferenceServerClient(endpoint.address) as client:
        for number, row in enumerate(rows):

            def keep(
                result: triton.InferResult | None, error: InferenceServerException | None, number: int = number
            ) -> None:
                done.put((number, result, error))
                room.release()

            room.acquire()
            client.async_infer(endpoint.model, [_input(row)], callback=keep, model_version=endpoint.version)
        for _ in rows:
            number, result, error = done.get(timeout=ANSWER_SECONDS)
            if error is not None or result is None:
                raise error or RuntimeError("a call ended without an answer")
            outputs[number] = result.as_numpy(endpoint.output)[0]
    return np.stack([outputs[number] for number in range(len(rows))])


def latencies_seconds(endpoint: Endpoint, rows: list[Floats]) -> NDArray[np.float64]:
    """Send the rows one after the other and return the seconds that each call took, the first ones left out."""
    clock = SystemClock()
    seconds = []
    with triton.InferenceServerClient(endpoint.address) as client:
        for row in rows:
            started_ns = clock.now_ns()
            client.infer(endpoint.model, [_input(row)], model_version=endpoint.version)
            seconds.append((clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND)
    return np.array(seconds[len(seconds) // 10 :])


def _input(row: Floats) -> triton.InferInput:
    made = triton.InferInput("x", [1, *row.shape], "FP32")
    made.set_data_from_numpy(row[None])
    return made
