"""Who may call what: every call of the service, with every kind of token."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.support.artefacts import FEATURES, write_lstm
from training.local_server import LSTM_SERVE, LocalServer

OK, DENIED, UNKNOWN = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
MODEL, OTHER, ABSENT = "lstm", "other", "absent"
SECONDS = 60


class Entry(NamedTuple):
    """Of the tokens' file; the token is the name with something in front."""

    name: str
    rights: dict[str, Any]

    @property
    def token(self) -> str:
        return f"token-of-{self.name}"

    def written(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": hashlib.sha256(self.token.encode()).hexdigest(), **self.rights}


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


def infer_request(model: str) -> pb.ModelInferRequest:
    x = np.zeros((1, 2, FEATURES), "<f4")
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


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


def bearer(value: str | None) -> list[tuple[str, str]]:
    return [] if value is None else [("authorization", value)]


class Answer(NamedTuple):
    code: grpc.StatusCode
    details: str
    reason: str


def call(channel: grpc.Channel, method: str, request: Any, token: str | None) -> Answer:
    """Return how a call ended; of a stream, how its one message did."""
    behave = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)
    try:
        if method != "ModelStreamInfer":
            behave(request, metadata=bearer(token), timeout=SECONDS)
            return Answer(OK, "", "")
        (answer,) = behave(iter([request]), metadata=bearer(token), timeout=SECONDS)
    except grpc.RpcError as error:
        return Answer(error.code(), error.details(), dict(error.trailing_metadata()).get("reason", ""))
    if not answer.error_message:
        return Answer(OK, "", "")
    told = answer.infer_response.parameters
    code = grpc.StatusCode[told["grpc_status"].string_param]
    return Answer(code, answer.error_message, told["reason"].string_param)


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


def test_the_file_is_read_again_and_a_bad_one_changes_nothing(models: Path, tmp_path: Path) -> None:
    """Also for a stream that is open: its token's rights end where the file says so."""
    kept, withdrawn, new = Entry("kept", {"models": "*"}), Entry("withdrawn", {"models": "*"}), Entry("new", {})
    secret = tmp_path / "tokens.yaml"

    def write(*entries: Entry) -> None:
        aside = tmp_path / "aside"
        aside.write_text(yaml.safe_dump([entry.written() for entry in entries]))
        aside.rename(secret)

    def codes(channel: grpc.Channel) -> list[grpc.StatusCode]:
        return [
            call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {entry.token}").code
            for entry in (kept, withdrawn, new)
        ]

    write(kept, withdrawn)
    with LocalServer(models, "--tokens", str(secret)) as server, grpc.insecure_channel(server.address) as channel:
        with triton.InferenceServerClient(server.address) as client:
            answers: list[str] = []
            client.start_stream(
                lambda result, error: answers.append(str(error or (result and "ok"))),
                headers={"authorization": f"Bearer {withdrawn.token}"},
            )
            x = [tensor("x", sequence(np.random.default_rng(0), 1, 3))]
            client.async_stream_infer(MODEL, x)
            until(lambda: answers == ["ok"])
            assert codes(channel) == [OK, OK, UNKNOWN]

            write(kept, new)
            until(lambda: codes(channel) == [OK, UNKNOWN, OK])
            client.async_stream_infer(MODEL, x)
            until(lambda: len(answers) == 2)
            assert "not known" in answers[1]

        secret.write_text("- name: half")
        until(lambda: codes(channel) == [OK, UNKNOWN, OK] and any("still hold" in line for line in server.log))
        assert codes(channel) == [OK, UNKNOWN, OK]
        assert read_metric(server, "lstm_requests_total", outcome="unauthenticated") == 1


def test_without_tokens_everyone_infers_and_only_this_machine_administrates(models: Path) -> None:
    with (
        LocalServer(models, "--model-control", "explicit", "--load-model", MODEL) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for row in ("ModelInfer", "ModelStreamInfer", "RepositoryIndex", "RepositoryModelLoad"):
            assert call(channel, row, RIGHTS[row][0], None).code is OK


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read"),
        ("", "expected a list of entries"),
        ("[]", "at least 1 item"),
        ("- name: a\n  sha256: not-a-hash-but-a-secret\n", "0.sha256"),
        ('- name: a\n  sha256: "{}"\n  password: a-secret\n'.format("0" * 64), "0.password"),
        ("- name: a\n  sha256: [a-secret\n", "not valid YAML"),
        ('- name: a-secret\n  name: b\n  sha256: "{}"\n'.format("0" * 64), "not valid YAML in line 2"),
        ('- name: a\n  sha256: "{0}"\n- name: b\n  sha256: "{0}"\n'.format("0" * 64), "two entries"),
    ],
)
def test_a_tokens_file_that_cannot_be_used_ends_the_start_and_is_not_quoted(
    models: Path, tmp_path: Path, content: str | None, text: str
) -> None:
    path = tmp_path / "tokens.yaml"
    if content is not None:
        path.write_text(content)
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", models, "--tokens", path, "--grpc-port", "0", "--metrics-port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert f"--tokens {path}" in ended.stderr
    assert text in ended.stderr
    assert "secret" not in ended.stderr.replace(str(tmp_path), "")
    assert "Traceback" not in ended.stderr


def test_the_recipe_for_a_token_makes_one_that_works(models: Path, tmp_path: Path) -> None:
    block = re.search(r"```sh\n(token=.*?)```", (ROOT / "SECURITY.md").read_text(), re.DOTALL)
    assert block is not None
    made = subprocess.run(
        ["sh", "-e", "-c", block[1]], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True
    )
    token = made.stdout.split()[-1]

    path = str(tmp_path / "tokens.yaml")
    with LocalServer(models, "--tokens", path) as server, grpc.insecure_channel(server.address) as channel:
        answer = call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {token}")
        refused = call(channel, "ServerMetadata", pb.ServerMetadataRequest(), f"Bearer {token}0")
    assert len(token) == 64
    assert (answer.code, refused.code) == (OK, UNKNOWN)


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
