"""Who may call what: every call of the service, with every kind of token."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import read_metric, sequence, tensor
from tests.socket.readme import ROOT
from tests.socket.test_overload import until
from tests.socket.tokens import OK, SECONDS, Answer, Entry, bearer, call, infer_request
from tests.support.artefacts import FEATURES, write_lstm
from training.local_server import LocalServer

DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
MODEL, OTHER, ABSENT = "lstm", "other", "absent"


ENTRIES = (
    Entry("nothing", {}),
    Entry("wrong-model", {"models": [OTHER]}),
    Entry("model", {"models": [MODEL, ABSENT]}),
    Entry("admin", {"admin": True}),
    Entry("all", {"models": "*"}),
    Entry("all-listed", {"models": [MODEL, OTHER, ABSENT], "admin": False, "expires": "2999-12-31"}),
    Entry("expired", {"models": "*", "admin": True, "expires": "2020-01-01"}),
)
CALLERS: dict[str, str | None] = {
    "none": None,
    "unknown": "Bearer somebody's",
    "no-scheme": ENTRIES[4].token,
    "other-scheme": f"Basic {ENTRIES[4].token}",
    "empty": "Bearer ",
    **{entry.name: f"Bearer {entry.token}" for entry in ENTRIES},
}
STRANGERS = {"none", "unknown", "no-scheme", "other-scheme", "empty", "expired"}
INFERRING = {"model", "all", "all-listed"}
EVERYBODY = set(CALLERS)
KNOWN = EVERYBODY - STRANGERS


RIGHTS: dict[str, tuple[Any, set[str]]] = {
    "ServerLive": (pb.ServerLiveRequest(), EVERYBODY),
    "ServerReady": (pb.ServerReadyRequest(), EVERYBODY),
    "ServerMetadata": (pb.ServerMetadataRequest(), KNOWN),
    "ModelReady": (pb.ModelReadyRequest(name=MODEL), {*INFERRING, "admin"}),
    "ModelMetadata": (pb.ModelMetadataRequest(name=MODEL), {*INFERRING, "admin"}),
    "ModelConfig": (pb.ModelConfigRequest(name=MODEL), {*INFERRING, "admin"}),
    "ModelStatistics": (pb.ModelStatisticsRequest(name=MODEL), {*INFERRING, "admin"}),
    "ModelStatistics of all": (pb.ModelStatisticsRequest(), {"all", "admin"}),
    "RepositoryIndex": (pb.RepositoryIndexRequest(), {"all", "admin"}),
    "RepositoryModelLoad": (pb.RepositoryModelLoadRequest(model_name=MODEL), {"admin"}),
    "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest(model_name=OTHER), {"admin"}),
    "ModelInfer": (infer_request(MODEL), INFERRING),
    "ModelStreamInfer": (infer_request(MODEL), INFERRING),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root, MODEL)
    write_lstm(root, OTHER)
    return root


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "tokens.yaml"
    path.write_text(yaml.safe_dump([entry.written() for entry in ENTRIES]))
    return path


@pytest.fixture(scope="module")
def guarded(models: Path, tokens: Path) -> Iterator[LocalServer]:
    flags = ("--model-control", "explicit", "--load-model", MODEL, "--load-model", OTHER)
    with LocalServer(models, "--tokens", str(tokens), *flags) as server:
        yield server


@pytest.fixture
def channel(guarded: LocalServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(guarded.address) as connected:
        yield connected


def test_the_table_has_every_call_of_the_contract() -> None:
    contract = re.findall(r"^  rpc (\w+)\(", (ROOT / "proto" / "open_inference.proto").read_text(), re.MULTILINE)

    assert {row.partition(" ")[0] for row in RIGHTS} == set(contract)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("row", RIGHTS)
def test_a_call_is_for_those_who_have_the_right(channel: grpc.Channel, row: str, caller: str) -> None:
    request, allowed = RIGHTS[row]
    answer = call(channel, row.partition(" ")[0], request, CALLERS[caller])

    if caller in allowed:
        assert answer == (OK, "", "")
    elif caller in STRANGERS:
        assert (answer.code, answer.reason) == (UNKNOWN, "unauthenticated")
    else:
        assert (answer.code, answer.reason) == (DENIED, "permission_denied")


@pytest.mark.parametrize("caller", CALLERS)
def test_probes_are_answered_without_a_token_and_reflection_is_not(channel: grpc.Channel, caller: str) -> None:
    metadata = bearer(CALLERS[caller])
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=SECONDS).status
    watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()

    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        requests, metadata=metadata, timeout=SECONDS
    )
    if caller in STRANGERS:
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        assert refused.value.code() is UNKNOWN
    else:
        assert next(answers).list_services_response.service


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer", "ModelStreamInfer"])
def test_which_models_there_are_is_told_only_to_those_with_a_right_to_them(channel: grpc.Channel, method: str) -> None:
    """Without a right, a model that exists and one that does not look alike; with it, others are not named either."""

    def ask(model: str, caller: str) -> Answer:
        request = type(RIGHTS[method][0])()
        request.CopyFrom(infer_request(model) if "Infer" in method else type(request)(name=model))
        return call(channel, method, request, CALLERS[caller])

    there, absent = ask(MODEL, "wrong-model"), ask(ABSENT, "wrong-model")
    assert there.code is absent.code is DENIED
    assert there.details.replace(MODEL, ABSENT) == absent.details
    told = ask(ABSENT, "model")
    assert told.code is grpc.StatusCode.NOT_FOUND
    assert OTHER not in told.details


def test_a_stream_is_checked_message_by_message(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    requests = [infer_request(model) for model in (MODEL, OTHER, MODEL)]

    answers = list(stub.ModelStreamInfer(iter(requests), metadata=bearer(CALLERS["model"]), timeout=SECONDS))

    assert [answer.infer_response.parameters["grpc_status"].string_param for answer in answers] == [
        "",
        "PERMISSION_DENIED",
        "",
    ]


def test_tritonclient_sends_a_token_as_a_header(guarded: LocalServer) -> None:
    with triton.InferenceServerClient(guarded.address) as client:
        x = [tensor("x", sequence(np.random.default_rng(0), 1, 3))]
        assert client.infer(MODEL, x, headers={"authorization": str(CALLERS["model"])})
        with pytest.raises(InferenceServerException, match="authorization: Bearer"):
            client.infer(MODEL, x)


def test_without_tokens_everyone_infers_and_only_this_machine_administrates(models: Path) -> None:
    with (
        LocalServer(models, "--model-control", "explicit", "--load-model", MODEL) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for row in ("ModelInfer", "ModelStreamInfer", "RepositoryIndex", "RepositoryModelLoad"):
            assert call(channel, row, RIGHTS[row][0], None).code is OK


def test_one_client_cannot_take_all_places(tmp_path: Path) -> None:
    """Known by token, not by address; what is over its share is refused, and others are served meanwhile."""
    root = tmp_path / "models"
    write_lstm(root, MODEL, hidden=128)
    (root / MODEL / "model.yaml").write_text("max_batch_rows: 1\nmax_steps: 100000\n")
    greedy, modest = Entry("greedy", {"models": "*"}), Entry("modest", {"models": "*"})
    secret = tmp_path / "tokens.yaml"
    secret.write_text(yaml.safe_dump([entry.written() for entry in (greedy, modest)]))
    flags = ("--max-inflight-per-client", "2", "--max-inflight-requests", "4")
    x = np.zeros((1, 20_000, FEATURES), "<f4")
    long = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[x.tobytes()])
    long.inputs.add(name="x", datatype="FP32", shape=x.shape)
    long.outputs.add(name="last")
    with (
        LocalServer(root, "--tokens", str(secret), *flags) as server,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(8) as threads,
    ):
        calls = [threads.submit(call, channel, "ModelInfer", long, f"Bearer {greedy.token}") for _ in range(6)]
        until(lambda: read_metric(server, "lstm_requests_total", outcome="client_limit") == 4)
        other = call(channel, "ModelInfer", infer_request(MODEL), f"Bearer {modest.token}")
        ended = [done.result() for done in calls]

    assert other.code is OK
    assert (
        sorted((answer.code.name, answer.reason) for answer in ended)
        == [("OK", "")] * 2 + [("RESOURCE_EXHAUSTED", "client_limit")] * 4
    )
