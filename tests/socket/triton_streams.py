"""Checks of what tritonclient's clients have for many requests at a time: futures, streams, and taking them back."""

import queue
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import sequence, tensor
from tests.socket.triton_clients import INPUT, SECONDS, Ask, Check, infer

LONG = sequence(np.random.default_rng(12), 1, 50_000)
"""For the model `slow`: at work for long enough to be taken back."""
IDS = ("first", "bad", "last")
CANCELLED = "StatusCode.CANCELLED"
Outcome = triton.InferResult | InferenceServerException


def collector(outcomes: "queue.Queue[Outcome]") -> Callable[..., None]:
    return lambda result, error: outcomes.put(error or result)


async def async_infer(asked: Ask) -> None:
    outcomes: queue.Queue[Outcome] = queue.Queue()
    await asked("async_infer", "lstm", [tensor("x", INPUT)], collector(outcomes), request_id="mine")
    result = outcomes.get(timeout=SECONDS)
    assert result.get_response().id == "mine"
    np.testing.assert_array_equal(result.as_numpy("last"), (await infer(asked)).as_numpy("last"))

    call = await asked("async_infer", "slow", [tensor("x", LONG)], collector(outcomes))
    call.cancel()
    assert outcomes.get(timeout=SECONDS).status() == CANCELLED
    assert (await infer(asked, "slow")).get_response().model_name == "slow"


async def stream(asked: Ask) -> None:
    """Answers come in order, a bad request among them, and `stop_stream` waits for all."""
    outcomes: queue.Queue[Outcome] = queue.Queue()
    await asked("start_stream", collector(outcomes), stream_timeout=SECONDS, compression_algorithm="gzip")
    for each in IDS:
        model = "nobody" if each == "bad" else "lstm"
        x, last = [tensor("x", INPUT)], [triton.InferRequestedOutput("last")]
        await asked("async_stream_infer", model, x, request_id=each, outputs=last, enable_empty_final_response=True)
    await asked("stop_stream")
    await check_answers(asked, [outcomes.get_nowait() for _ in IDS])
    assert outcomes.empty()

    await asked("start_stream", collector(outcomes))
    await asked("async_stream_infer", "slow", [tensor("x", LONG)])
    await asked("stop_stream", cancel_requests=True)
    assert outcomes.get_nowait().status() == CANCELLED
    assert (await infer(asked, "slow")).get_response().model_name == "slow"


async def stream_infer(asked: Ask) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for each in IDS:
            model = "nobody" if each == "bad" else "lstm"
            last = [triton.InferRequestedOutput("last")]
            yield {"model_name": model, "inputs": [tensor("x", INPUT)], "request_id": each, "outputs": last}

    answers = await asked("stream_infer", requests(), stream_timeout=SECONDS, compression_algorithm="gzip")
    await check_answers(asked, [error or result async for result, error in answers])

    async def long_request() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "slow", "inputs": [tensor("x", LONG)]}

    assert (await asked("stream_infer", long_request())).cancel()
    assert (await infer(asked, "slow")).get_response().model_name == "slow"


async def check_answers(asked: Ask, answers: list[Outcome]) -> None:
    first, bad, last = answers
    assert "'nobody'" in bad.message()
    alone = (await infer(asked)).as_numpy("last")
    for name, answer in (("first", first), ("last", last)):
        response = answer.get_response()
        assert response.id == name
        assert [(each.name, list(each.shape)) for each in response.outputs] == [("last", list(alone.shape))]
        np.testing.assert_allclose(answer.as_numpy("last"), alone, rtol=1e-5, atol=1e-6)
        told = answer.get_response(as_json=True)
        assert told["parameters"] == {"triton_final_response": {"bool_param": True}}, "the request has no more answers"


STREAMS: dict[str, dict[str, Check]] = {
    "sync": {
        "async_infer": async_infer,
        "start_stream": stream,
        "async_stream_infer": stream,
        "stop_stream": stream,
    },
    "aio": {"stream_infer": stream_infer},
}
"""By client and method; methods that only work together share a check."""
