"""Both of tritonclient's gRPC clients behind one way to call, so that one table of checks serves for both."""

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import yaml
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import sequence, tensor

FLAVOURS: dict[str, ModuleType] = {"sync": triton, "aio": triton_aio}
SECONDS = 60.0
"""For one call, a loaded machine included."""
TOKEN = "token-of-everything"  # noqa: S105  of a server that lives for a test
INPUT = sequence(np.random.default_rng(11), 2, 5)
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def write_tokens(path: Path) -> Path:
    """Write a file of tokens that knows the one, with every right."""
    entry = {"name": "all", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "models": "*", "admin": True}
    path.write_text(yaml.safe_dump([entry]))
    return path


class Ask:
    """Calls methods of one client by name, awaits what has to be awaited, and sends the token where one can be sent.

    Attributes:
        client: that is called.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        behave = getattr(self.client, method)
        standard = {"headers": HEADERS, "client_timeout": SECONDS}
        known = inspect.signature(behave).parameters
        answer = behave(*args, **{key: value for key, value in standard.items() if key in known} | options)
        return await answer if inspect.isawaitable(answer) else answer

    async def in_both_forms(self, method: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        """Return an answer as message and as JSON, which must say the same."""
        message = await self(method, *args, **options)
        told = await self(method, *args, as_json=True, **options)
        assert told == json_format.MessageToDict(message, preserving_proto_field_name=True)
        return message, told


async def infer(asked: Ask, model: str = "lstm", **options: Any) -> triton.InferResult:
    """Send the input."""
    result: triton.InferResult = await asked("infer", model, [tensor("x", INPUT)], **options)
    return result


async def refused(asking: Awaitable[Any]) -> tuple[str, str]:
    """Return status and message of what must fail."""
    with pytest.raises(InferenceServerException) as error:
        await asking
    return error.value.status(), error.value.message()


Check = Callable[[Ask], Awaitable[None]]


def ask(flavour: str, address: str, check: Check) -> None:
    """Let a check ask a server by a client of one flavour."""

    async def asking() -> None:
        client = FLAVOURS[flavour].InferenceServerClient(address)
        try:
            await check(Ask(client))
        finally:
            closed = client.close()
            if inspect.isawaitable(closed):
                await closed

    asyncio.run(asking())


def public(flavour: str) -> set[str]:
    """List what a client offers, by what is there."""
    client = FLAVOURS[flavour].InferenceServerClient
    return {name for name, _ in inspect.getmembers(client, callable) if not name.startswith("_")}


def options(flavour: str, method: str) -> set[str]:
    """List what a method may be told beyond model and inputs."""
    known = inspect.signature(getattr(FLAVOURS[flavour].InferenceServerClient, method)).parameters
    return set(known) - {"self", "model_name", "inputs"}
