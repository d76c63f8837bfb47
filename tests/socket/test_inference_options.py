"""Every option that tritonclient's clients have for an inference, found by looking at the clients."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import sequence, tensor
from tests.socket.test_protocol import by_hand
from tests.socket.triton_clients import FLAVOURS, HEADERS, INPUT, Ask, ask, infer, options, refused
from training.local_server import LocalServer

INVALID, LATE = "StatusCode.INVALID_ARGUMENT", "StatusCode.DEADLINE_EXCEEDED"
OptionCheck = Callable[[Ask, Path], Awaitable[None]]
"""Takes the repository as well, to compute what must come."""


def close_to(result: triton.InferResult, expected: dict[str, np.ndarray]) -> None:
    assert {each.name for each in result.get_response().outputs} == set(expected)
    for name, array in expected.items():
        assert result.get_output(name).datatype == "FP32"
        assert list(result.get_output(name).shape) == list(array.shape)
        np.testing.assert_allclose(result.as_numpy(name), array, rtol=1e-5, atol=1e-6)


async def model_version(asked: Ask, repository: Path) -> None:
    for version in (1, 2):
        result = await infer(asked, model_version=str(version))
        assert result.get_response().model_version == str(version)
        close_to(result, by_hand(repository, "lstm", INPUT, version))
    close_to(await infer(asked), by_hand(repository, "lstm", INPUT, 2))
    assert (await refused(infer(asked, model_version="3")))[0] == "StatusCode.NOT_FOUND"


async def outputs(asked: Ask, repository: Path) -> None:
    expected = by_hand(repository, "lstm", INPUT, 2)
    for names in (["last"], ["last", "steps"]):
        result = await infer(asked, outputs=[triton.InferRequestedOutput(name) for name in names])
        assert [each.name for each in result.get_response().outputs] == names, "in the order asked for"
        close_to(result, {name: expected[name] for name in names})
    assert (await infer(asked, outputs=[])).as_numpy("steps").shape == (2, 5, 8)
    for wanted, word in (
        (triton.InferRequestedOutput("other"), "other"),
        (triton.InferRequestedOutput("last", class_count=2), "classification"),
        (in_shared_memory(triton.InferRequestedOutput("last")), "shared_memory_region"),
    ):
        status, message = await refused(infer(asked, outputs=[wanted]))
        assert (status, word in message) == (INVALID, True)


def in_shared_memory(wanted: triton.InferRequestedOutput) -> triton.InferRequestedOutput:
    wanted.set_shared_memory("region", 64)
    return wanted


async def request_id(asked: Ask, _: Path) -> None:
    result = await infer(asked, request_id="é-42")
    assert result.get_response().id == "é-42"
    assert result.get_response(as_json=True)["id"] == "é-42"
    assert (await infer(asked)).get_response().id == ""


async def sequence_of_requests(asked: Ask, _: Path) -> None:
    """State lives with the clients here, so a request that relies on the server's must not be answered."""
    for name in (7, "seven"):
        status, message = await refused(
            infer(asked, "causal", sequence_id=name, sequence_start=True, sequence_end=True)
        )
        assert status == INVALID
        assert "'sequence_id'" in message
        assert "'state'" in message, "what there is instead"
    assert await infer(asked, "causal", sequence_id=0, sequence_start=True)


async def priority(asked: Ask, _: Path) -> None:
    assert await infer(asked, priority=1)
    assert await infer(asked, priority=9)
    status, message = await refused(infer(asked, priority=10))
    assert (status, "'priority'" in message) == (INVALID, True)


async def timeout(asked: Ask, _: Path) -> None:
    assert await infer(asked, timeout=60_000_000)
    assert (await refused(infer(asked, timeout=1)))[0] == LATE


async def client_timeout(asked: Ask, _: Path) -> None:
    assert await infer(asked, client_timeout=60.0)
    long = tensor("x", sequence(np.random.default_rng(13), 1, 50_000))
    assert (await refused(asked("infer", "tight", [long], client_timeout=0.001)))[0] == LATE


async def headers(asked: Ask, _: Path) -> None:
    assert await infer(asked, headers={**HEADERS, "x-request-id": "mine", "some-bin": b"\x00\xff"})


async def compression_algorithm(asked: Ask, repository: Path) -> None:
    expected = by_hand(repository, "lstm", INPUT, 2)
    for algorithm in ("gzip", "deflate", None):
        close_to(await infer(asked, compression_algorithm=algorithm), expected)


async def parameters(asked: Ask, repository: Path) -> None:
    """What the server does not know changes nothing."""
    result = await infer(asked, parameters={"a": 1, "b": "two", "c": True})
    close_to(result, by_hand(repository, "lstm", INPUT, 2))


OPTIONS: dict[str, OptionCheck] = {
    "model_version": model_version,
    "outputs": outputs,
    "request_id": request_id,
    "sequence_id": sequence_of_requests,
    "sequence_start": sequence_of_requests,
    "sequence_end": sequence_of_requests,
    "priority": priority,
    "timeout": timeout,
    "client_timeout": client_timeout,
    "headers": headers,
    "compression_algorithm": compression_algorithm,
    "parameters": parameters,
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_table_names_every_option(flavour: str) -> None:
    assert options(flavour, "infer") == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_option_does_what_the_client_says(server: LocalServer, repository: Path, flavour: str, option: str) -> None:
    async def check(asked: Ask) -> None:
        await OPTIONS[option](asked, repository)

    ask(flavour, server.address, check)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_input_in_shared_memory_is_refused(server: LocalServer, flavour: str) -> None:
    async def check(asked: Ask) -> None:
        there = tensor("x", INPUT)
        there.set_shared_memory("region", INPUT.nbytes)
        status, message = await refused(asked("infer", "lstm", [there]))
        assert (status, "send tensors as bytes" in message) == (INVALID, True)

    ask(flavour, server.address, check)
