"""Every public method of tritonclient's two gRPC clients against a real server, found by looking at the clients.

A method that a newer tritonclient brings fails here until a table names it. What is offered is checked for names, shapes
and types as the clients read them; what is not offered must say so, and what there is instead.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from tritonclient.grpc import service_pb2

from tests.socket.conftest import tensor
from tests.socket.triton_clients import (
    FLAVOURS,
    HEADERS,
    INPUT,
    Ask,
    ask,
    options,
    public,
    refused,
    write_tokens,
)
from tests.socket.triton_control import OFFERED, SPARE, UNTOUCHED
from tests.socket.triton_streams import STREAMS
from tests.support.artefacts import write_lstm
from training.local_server import LocalServer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm", 1)
    write_lstm(root, "lstm", 2, seed=2)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_lstm(root, "slow", hidden=128)
    (root / "slow" / "model.yaml").write_text("max_steps: 100000\n")
    write_lstm(root, SPARE)
    write_lstm(root, UNTOUCHED)
    return root


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Ask for a token, so that a method which does not send its headers is told from one that does."""
    tokens = write_tokens(tmp_path_factory.mktemp("secret") / "tokens.yaml")
    loaded = (flag for model in ("lstm", "causal", "slow") for flag in ("--load-model", model))
    with LocalServer(models, "--model-control", "explicit", *loaded, "--tokens", str(tokens)) as server:
        yield server
    assert server.process.returncode == 0, "".join(server.log)


MEMORY = "send tensors as bytes"
UNOFFERED: dict[str, tuple[tuple[Any, ...], str]] = {
    "get_system_shared_memory_status": ((), MEMORY),
    "register_system_shared_memory": (("region", "/key", 64), MEMORY),
    "unregister_system_shared_memory": (("region",), MEMORY),
    "get_cuda_shared_memory_status": ((), MEMORY),
    "register_cuda_shared_memory": (("region", b"aGFuZGxl", 0, 64), MEMORY),
    "unregister_cuda_shared_memory": (("region",), MEMORY),
    "get_trace_settings": ((), "--tracing-endpoint"),
    "update_trace_settings": (("lstm", {"trace_rate": "1"}), "--tracing-endpoint"),
    "get_log_settings": ((), "--log-level"),
    "update_log_settings": (({"log_verbose_level": 1},), "--log-level"),
}
"""What each is called with, and what its refusal must say."""
PROBES = {"is_server_live", "is_server_ready"}
NEEDED: dict[str, tuple[Any, ...]] = {
    **{name: arguments for name, (arguments, _) in UNOFFERED.items()},
    **dict.fromkeys(("is_model_ready", "get_model_metadata", "get_model_config", "load_model", "unload_model"), ("x",)),
    "infer": ("lstm", [tensor("x", INPUT)]),
}
"""Arguments that a method cannot be called without."""


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_tables_name_every_method(flavour: str) -> None:
    assert public(flavour) == {*OFFERED, *UNOFFERED, *STREAMS[flavour]}


@pytest.mark.parametrize("method", OFFERED)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_offered_answers_as_the_client_expects(served: LocalServer, flavour: str, method: str) -> None:
    ask(flavour, served.address, OFFERED[method])


@pytest.mark.parametrize(("flavour", "method"), [(each, name) for each in FLAVOURS for name in STREAMS[each]])
def test_many_requests_at_a_time_answer_as_the_client_expects(served: LocalServer, flavour: str, method: str) -> None:
    ask(flavour, served.address, STREAMS[flavour][method])


@pytest.mark.parametrize("method", UNOFFERED)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_not_offered_says_so_and_what_there_is_instead(served: LocalServer, flavour: str, method: str) -> None:
    arguments, instead = UNOFFERED[method]

    async def check(asked: Ask) -> None:
        status, message = await refused(asked(method, *arguments))
        assert status == "StatusCode.UNIMPLEMENTED"
        assert message.startswith("this server does not offer ")
        assert instead in message

    ask(flavour, served.address, check)


@pytest.mark.parametrize("method", [name for name in (*OFFERED, *UNOFFERED) if "headers" in options("sync", name)])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_headers_are_what_lets_a_method_in(served: LocalServer, flavour: str, method: str) -> None:
    """Also where the answer would be that it is not offered: strangers are not told what there is."""

    async def check(asked: Ask) -> None:
        asking = asked(method, *NEEDED.get(method, ()), headers=None)
        if method in PROBES:
            assert await asking is True
        else:
            assert (await refused(asking))[0] == "StatusCode.UNAUTHENTICATED"

    ask(flavour, served.address, check)


@pytest.mark.parametrize(
    "method", [each.name for each in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
)
def test_every_call_of_tritons_service_is_known_by_name(served: LocalServer, method: str) -> None:
    code, details = by_name(served, method)

    if code is grpc.StatusCode.UNIMPLEMENTED:
        assert details.startswith(f"this server does not offer {method}: ")


def test_a_call_that_nobody_knows_is_told_which_there_are(served: LocalServer) -> None:
    code, details = by_name(served, "Invented")

    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "Invented" not in details
    assert "it has ModelConfig, ModelInfer, " in details


def by_name(server: LocalServer, method: str) -> tuple[grpc.StatusCode, str]:
    """Call with an empty message, whatever the method takes, and return how that ended."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}", request_serializer=empty_pb2.Empty.SerializeToString
        )
        future = call.future(empty_pb2.Empty(), timeout=60, metadata=list(HEADERS.items()))
        return future.code(), future.details()


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_kserves_form_of_a_load_is_told_apart_from_tritons(served: LocalServer, method: str) -> None:
    """KServe has the model's name where Triton has the repository's, so the refusal must not blame the repository."""
    request = getattr(service_pb2, f"{method}Request")(repository_name="lstm")
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        future = call.future(request.SerializeToString(), timeout=60, metadata=list(HEADERS.items()))
        assert future.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "model_name is empty" in future.details()
        assert "KServe" in future.details()
