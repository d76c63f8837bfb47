"""The log of a running server: every line can be read by a machine, and a caller's id leads to its line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.socket.test_overload import until
from tests.support.artefacts import write_lookup, write_lstm
from training.local_server import LocalServer

GOOD, UNKNOWN_TOKEN = np.array([[1, 2, 3]]), np.array([[1, 9, 3]])
EVIL = 'bought"\n{"level": "CRITICAL"}\r\u2028\x1b[2J'


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that says everything, and whose one model fails at tokens that it does not know."""
    root = tmp_path_factory.mktemp("models")
    write_lookup(root)
    (write_lstm(root, "tampered") / "model.onnx").write_bytes(b"")
    with LocalServer(root, "--log-format", "json", "--log-level", "debug", "--log-requests") as running:
        yield running


@pytest.fixture
def stub(chatty: LocalServer) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(chatty.address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(tokens: np.ndarray, request_id: str = "") -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="lookup", id=request_id, raw_input_contents=[tokens.tobytes()])
    made.inputs.add(name="tokens", datatype="INT64", shape=tokens.shape)
    return made


def events(server: LocalServer, **fields: object) -> list[dict[str, Any]]:
    """Return what the log has so far with these fields."""
    entries = [json.loads(line) for line in server.log]
    return [entry for entry in entries if fields.items() <= entry.items()]


def event(server: LocalServer, **fields: object) -> dict[str, Any]:
    """Return the one event with these fields, as soon as it has come through the pipe."""
    until(lambda: bool(events(server, **fields)))
    (entry,) = events(server, **fields)
    return entry


def trailing(call: grpc.Call) -> dict[str, str]:
    return dict(call.trailing_metadata() or ())


def called(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, message: service_pb2.ModelInferRequest, *ids: str
) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Call with the ids given; return status, details and trailing metadata."""
    call = stub.ModelInfer.future(message, metadata=[("x-request-id", sent) for sent in ids], timeout=60)
    return call.code(), call.details() or "", trailing(call)


def test_every_line_of_a_run_is_one_json_object(tmp_path: Path) -> None:
    """From the start to the end of the process, with an unforeseen token, an id that is an attack, and a bad model."""
    write_lookup(tmp_path)
    (write_lstm(tmp_path, "tampered") / "model.onnx").write_bytes(b"")
    with (
        LocalServer(tmp_path, "--log-format", "json", "--log-level", "debug", "--log-requests") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert called(stub, request(GOOD, EVIL))[0] is grpc.StatusCode.OK
        assert called(stub, request(UNKNOWN_TOKEN, EVIL))[0] is grpc.StatusCode.INTERNAL
        assert called(stub, request(GOOD.astype(np.int32)))[0] is grpc.StatusCode.INVALID_ARGUMENT

    assert server.process.returncode == 0
    entries = events(server)
    assert all({"timestamp", "level", "logger", "message", "event"} <= entry.keys() for entry in entries)
    assert [entry["timestamp"] for entry in entries] == sorted(entry["timestamp"] for entry in entries)
    order = [entry["event"] for entry in entries]
    assert order[:2] == ["started", "cpu_budget"]
    assert order[-2:] == ["draining", "stopped"]
    assert order.count("request") == 3
    assert events(server, event="model_loaded", model="lookup", version="1")
    assert events(server, event="model_refused", model="tampered", version="1", level="ERROR")
    (answered,) = events(server, event="request", outcome="ok")
    assert (answered["id"], answered["model"], answered["rows"], answered["steps"]) == (EVIL, "lookup", 1, 3)


def test_a_fault_is_in_the_log_under_the_id_that_the_caller_was_told(
    chatty: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    """The engine's own line has the cause, and a second one the request."""
    code, details, metadata = called(stub, request(UNKNOWN_TOKEN), "order-66")

    assert (code, metadata["x-request-id"]) == (grpc.StatusCode.INTERNAL, "order-66")
    fault = details.rpartition(" ")[2]
    cause = event(chatty, event="engine_fault", fault=fault)
    assert "Traceback" in cause["exception"]
    assert "out of data bounds" in cause["exception"]
    assert event(chatty, event="fault_told", fault=fault)["request_id"] == "order-66"


def test_a_caller_without_an_id_is_told_one_with_a_fault(
    chatty: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    _, details, metadata = called(stub, request(UNKNOWN_TOKEN))

    told = event(chatty, event="fault_told", fault=details.rpartition(" ")[2])
    assert told["request_id"] == metadata["x-request-id"]


@pytest.mark.parametrize("sent", ["order-66", " with spaces ~", "x" * 128])
def test_a_good_id_comes_back_and_is_logged(
    chatty: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub, sent: str
) -> None:
    code, _, metadata = called(stub, request(GOOD, f"good {sent[:20]}"), sent)

    kept = sent.strip(" ")  # HTTP/2 peers may drop the blanks around a value
    assert code is grpc.StatusCode.OK
    assert metadata["x-request-id"].strip(" ") == kept
    line = event(chatty, event="request", id=f"good {sent[:20]}")
    assert line["request_id"].strip(" ") == kept


def test_an_id_that_is_not_fit_for_use_is_replaced(
    chatty: LocalServer, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    _, _, metadata = called(stub, request(GOOD, "garbage"), "x" * 129)

    line = event(chatty, event="request", id="garbage")
    assert line["request_id"] == metadata["x-request-id"]
    assert len(metadata["x-request-id"]) == 32


def test_a_refused_request_and_a_stream_and_a_control_call_get_their_id_back(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    nobody = request(GOOD)
    nobody.model_name = "nobody"
    code, _, metadata = called(stub, nobody, "lost")
    assert (code, metadata["x-request-id"]) == (grpc.StatusCode.NOT_FOUND, "lost")

    stream = stub.ModelStreamInfer(iter([request(GOOD)]), metadata=[("x-request-id", "streamed")], timeout=60)
    assert len(list(stream)) == 1
    assert trailing(stream)["x-request-id"] == "streamed"

    live = stub.ServerLive.future(service_pb2.ServerLiveRequest(), metadata=[("x-request-id", "alive")], timeout=60)
    assert live.result().live
    assert trailing(live)["x-request-id"] == "alive"


def test_without_being_asked_the_server_logs_no_request_and_tells_no_id(tmp_path: Path) -> None:
    """Bad input least of all: its flood must not become the log's."""
    write_lookup(tmp_path)
    with (
        LocalServer(tmp_path, "--log-format", "json") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(50):
            assert called(stub, request(GOOD.astype(np.int32)))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert called(stub, request(GOOD))[2] == {}

    assert [entry["event"] for entry in events(server)] == [
        "started", "cpu_budget", "model_loaded", "ready", "draining", "stopped",
    ]  # fmt: skip
