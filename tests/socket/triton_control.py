"""Checks of what tritonclient's clients have beside streams: names, shapes and types as the clients read them.

The server is that of `test_conformance.py`, which asks for the token and loads models when it is told to.
"""

from typing import Any

import pytest
import tritonclient.grpc as triton

import serving
from tests.socket.triton_clients import HEADERS, INPUT, Ask, Check, infer, refused
from tests.support.artefacts import FEATURES

SPARE = "spare"
"""Lies in the repository, and is loaded and unloaded by the tests."""
UNTOUCHED = "untouched"
"""Lies in the repository, and is never loaded."""


async def is_server_live(asked: Ask) -> None:
    assert await asked("is_server_live") is True


async def is_server_ready(asked: Ask) -> None:
    assert await asked("is_server_ready") is True


async def is_model_ready(asked: Ask) -> None:
    assert await asked("is_model_ready", "lstm") is True
    assert await asked("is_model_ready", "lstm", "1") is True
    for absent in ("nobody", UNTOUCHED):
        status, message = await refused(asked("is_model_ready", absent))
        assert (status, message.partition(";")[0]) == ("StatusCode.NOT_FOUND", f"no model '{absent}' is loaded")


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
    idle = {(SPARE, "1"), (UNTOUCHED, "1")}
    assert states == {**dict.fromkeys(serving_now, "READY"), **dict.fromkeys(idle, "UNAVAILABLE")}
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
