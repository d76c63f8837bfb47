"""Every public method of tritonclient's two gRPC clients against a real server, found by looking at the clients.

A method that a newer tritonclient brings fails here until a table names it. What is offered is checked for names, shapes
and types as the clients read them; what is not offered must say so, and what there is instead.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from google.protobuf import empty_pb2
from tritonclient.grpc import service_pb2

import serving
from tests.socket.conftest import tensor
from tests.socket.triton_clients import (
    FLAVOURS,
    HEADERS,
    INPUT,
    Ask,
    Check,
    ask,
    infer,
    options,
    public,
    refused,
    write_tokens,
)
from tests.socket.triton_streams import STREAMS
from tests.support.artefacts import FEATURES, write_lstm
from training.local_server import LocalServer

SPARE = "spare"
"""Lies in the repository and is not loaded."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, "lstm", 1)
    write_lstm(root, "lstm", 2, seed=2)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_lstm(root, "slow", hidden=128)
    (root / "slow" / "model.yaml").write_text("max_steps: 100000\n")
    write_lstm(root, SPARE)
    return root


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Ask for a token, so that a method which does not send its headers is told from one that does."""
    tokens = write_tokens(tmp_path_factory.mktemp("secret") / "tokens.yaml")
    loaded = (flag for model in ("lstm", "causal", "slow") for flag in ("--load-model", model))
    with LocalServer(models, "--model-control", "explicit", *loaded, "--tokens", str(tokens)) as server:
        yield server
    assert server.process.returncode == 0, "".join(server.log)


async def is_server_live(asked: Ask) -> None:
    assert await asked("is_server_live") is True


async def is_server_ready(asked: Ask) -> None:
    assert await asked("is_server_ready") is True


async def is_model_ready(asked: Ask) -> None:
    assert await asked("is_model_ready", "lstm") is True
    assert await asked("is_model_ready", "lstm", "1") is True
    assert await asked("is_model_ready", SPARE) is False
    assert await refused(asked("is_model_ready", "nobody")) == (
        "StatusCode.NOT_FOUND",
        "no model 'nobody'; RepositoryIndex lists those that this server has",
    )


async def get_server_metadata(asked: Ask) -> None:
    message, told = await asked.in_both_forms("get_server_metadata")

    assert told.pop("extensions") == sorted(message.extensions)
    assert told == {"name": "lstm-serve", "version": serving.__version__}
    assert {"model_configuration", "model_repository", "schedule_policy", "statistics"} <= set(message.extensions)


async def get_model_metadata(asked: Ask) -> None:
    message, told = await asked.in_both_forms("get_model_metadata", "causal", "1")

    assert [(each.name, each.datatype, list(each.shape)) for each in message.inputs] == [
        ("x", "FP32", [-1, -1, FEATURES])
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in message.outputs] == [
        ("steps", "FP32", [-1, -1, 4]),
        ("last", "FP32", [-1, 4]),
        ("state", "UINT8", [-1, *message.outputs[-1].shape[1:]]),
    ]
    assert (told["name"], told["platform"], told["versions"]) == ("causal", "onnxruntime_onnx", ["1"])
    assert list((await asked("get_model_metadata", "lstm")).versions) == ["1", "2"]


async def get_model_config(asked: Ask) -> None:
    """Its tensors are those of the metadata, in the form of a configuration: without the rows, types by another name."""
    for model in ("lstm", "causal"):
        message, told = await asked.in_both_forms("get_model_config", model, "1")
        metadata = await asked("get_model_metadata", model, "1")
        config = message.config
        assert (config.name, config.platform, config.backend) == (model, metadata.platform, "onnxruntime")
        assert config.max_batch_size == 256
        described = {each["name"]: (each["data_type"], [int(size) for size in each["dims"]]) for each in _sides(told)}
        for each in [*metadata.inputs, *metadata.outputs]:
            assert described[each.name] == (f"TYPE_{each.datatype}", list(each.shape)[1:])
        assert {each.name for each in config.input if not each.optional} == {each.name for each in metadata.inputs}


def _sides(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [*told["config"]["input"], *told["config"]["output"]]


async def get_inference_statistics(asked: Ask) -> None:
    async def counted() -> Any:
        message, _ = await asked.in_both_forms("get_inference_statistics", "lstm", "1")
        (stats,) = message.model_stats
        assert (stats.name, stats.version) == ("lstm", "1")
        return stats

    before = await counted()
    await infer(asked, model_version="1")
    after = await counted()

    assert after.inference_count - before.inference_count == len(INPUT)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert after.execution_count > before.execution_count
    assert after.last_inference >= before.last_inference
    everything = await asked("get_inference_statistics")
    assert [(each.name, each.version) for each in everything.model_stats] == [
        ("causal", "1"),
        ("lstm", "1"),
        ("lstm", "2"),
        ("slow", "1"),
    ]


async def get_model_repository_index(asked: Ask) -> None:
    message, _ = await asked.in_both_forms("get_model_repository_index")

    states = {(each.name, each.version): each.state for each in message.models}
    serving_now = {("causal", "1"), ("lstm", "1"), ("lstm", "2"), ("slow", "1")}
    assert states == {**dict.fromkeys(serving_now, "READY"), (SPARE, "1"): "UNAVAILABLE"}
    assert {bool(each.reason) for each in message.models if each.state == "UNAVAILABLE"} == {True}


async def load_and_unload_model(asked: Ask) -> None:
    await asked("load_model", SPARE)
    assert await asked("is_model_ready", SPARE) is True
    assert (await infer(asked, SPARE)).get_response().model_version == "1"

    await asked("unload_model", SPARE)
    assert await asked("is_model_ready", SPARE) is False
    status, message = await refused(infer(asked, SPARE))
    assert (status, f"'{SPARE}'" in message) == ("StatusCode.UNAVAILABLE", True)


async def load_model(asked: Ask) -> None:
    await load_and_unload_model(asked)
    for brought in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"onnx"}}):
        status, message = await refused(asked("load_model", "lstm", **brought))
        assert (status, "model.yaml" in message) == ("StatusCode.INVALID_ARGUMENT", True)
    assert (await refused(asked("load_model", "nobody")))[0] == "StatusCode.NOT_FOUND"


async def unload_model(asked: Ask) -> None:
    await load_and_unload_model(asked)
    await asked("load_model", SPARE)
    await asked("unload_model", SPARE, unload_dependents=True)
    assert await asked("is_model_ready", SPARE) is False
    assert (await refused(asked("unload_model", "nobody")))[0] == "StatusCode.NOT_FOUND"


async def infer_alone(asked: Ask) -> None:
    response = (await infer(asked)).get_response()
    assert (response.model_name, response.model_version) == ("lstm", "2")


class Bearer(triton.InferenceServerClientPlugin):
    def __call__(self, request: Any) -> None:
        request.headers.update(HEADERS)


async def plugin(asked: Ask) -> None:
    """A plugin may be what brings the token."""
    assert await asked("plugin") is None
    mine = Bearer()
    await asked("register_plugin", mine)
    assert await asked("plugin") is mine
    assert (await asked("get_server_metadata", headers={})).name == "lstm-serve"
    await asked("unregister_plugin")
    assert (await refused(asked("get_server_metadata", headers={})))[0] == "StatusCode.UNAUTHENTICATED"


async def close(asked: Ask) -> None:
    await infer(asked)
    await asked("close")
    with pytest.raises(Exception, match=r"(?i)closed|shut ?down"):
        await infer(asked)


OFFERED: dict[str, Check] = {
    "is_server_live": is_server_live,
    "is_server_ready": is_server_ready,
    "is_model_ready": is_model_ready,
    "get_server_metadata": get_server_metadata,
    "get_model_metadata": get_model_metadata,
    "get_model_config": get_model_config,
    "get_inference_statistics": get_inference_statistics,
    "get_model_repository_index": get_model_repository_index,
    "load_model": load_model,
    "unload_model": unload_model,
    "infer": infer_alone,
    "plugin": plugin,
    "register_plugin": plugin,
    "unregister_plugin": plugin,
    "close": close,
}
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
