"""What goes wrong inside stays inside: clients get a status and an id, never an exception's text."""

from queue import SimpleQueue

import grpc
import pytest
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from serving._proto import open_inference_pb2 as oip
from serving.wire.others import SERVICE_NAME
from serving.wire.server import METHODS
from serving.wire.status import LEFT_OUT, MESSAGE_BYTES
from tests.wire.desk import SECONDS, Desk

GARBAGE = b"\xff\xff\xff"
OURS = [f"{SERVICE_NAME}/{name}" for name in METHODS]
REFLECTION = f"{reflection.SERVICE_NAME}/ServerReflectionInfo"
HEALTH = [f"{health.SERVICE_NAME}/{name}" for name in ("Check", "Watch")]


def send(desk: Desk, method: str, content: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as ended:
        list(desk.channel.stream_stream(f"/{method}")(iter([content]), timeout=SECONDS))
    return ended.value


@pytest.mark.parametrize("method", [*OURS, REFLECTION, *HEALTH])
def test_bytes_that_are_no_message_are_the_clients_mistake(desk: Desk, method: str) -> None:
    error = send(desk, method, GARBAGE)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith("the bytes that were sent are no ")


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelInfer"])
@pytest.mark.parametrize("letter", ["m", "\N{SNOWMAN}"])
def test_a_name_that_is_too_long_to_repeat_is_cut_and_its_status_arrives(desk: Desk, method: str, letter: str) -> None:
    """Whole, it would be more metadata than a client takes, which then says RESOURCE_EXHAUSTED: try again."""
    name = letter * 100_000
    message = (
        oip.ModelMetadataRequest(name=name) if method == "ModelMetadata" else oip.ModelInferRequest(model_name=name)
    )
    error = send(desk, f"{SERVICE_NAME}/{method}", message.SerializeToString())

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details().startswith(f"no model '{letter}{letter}")
    assert LEFT_OUT in error.details()
    assert error.details().endswith("RepositoryIndex lists those that this server has")
    assert len(error.details().encode()) <= MESSAGE_BYTES


def test_a_fault_has_an_id_and_the_log_has_the_rest(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The desk has no index of the repository, which the call runs into."""
    error = send(desk, next(method for method in OURS if "RepositoryIndex" in method), b"")

    assert error.code() is grpc.StatusCode.INTERNAL
    words, _, fault = error.details().rpartition(" ")
    assert words == "a fault of the server; its log has it as"
    assert fault in caplog.text
    assert "AttributeError" in caplog.text


@pytest.mark.parametrize(
    "question",
    [
        reflection_pb2.ServerReflectionRequest(),
        reflection_pb2.ServerReflectionRequest(file_by_filename="../../etc/passwd"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
        reflection_pb2.ServerReflectionRequest(
            file_containing_extension=reflection_pb2.ExtensionRequest(containing_type="inference.ModelInferRequest")
        ),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="\N{SNOWMAN}"),
    ],
)
def test_odd_questions_of_reflection_are_answered(
    desk: Desk, question: reflection_pb2.ServerReflectionRequest, caplog: pytest.LogCaptureFixture
) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(desk.channel)
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=SECONDS)

    assert answer.WhichOneof("message_response") == "error_response"
    assert caplog.records == []


def test_a_client_of_reflection_that_leaves_is_no_fault(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The stop of the server waits for the call, so that all of it has been logged then."""
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    questions: SimpleQueue[reflection_pb2.ServerReflectionRequest | None] = SimpleQueue()
    questions.put(question)
    answers = reflection_pb2_grpc.ServerReflectionStub(desk.channel).ServerReflectionInfo(
        iter(questions.get, None), timeout=SECONDS
    )
    assert next(answers).list_services_response.service

    answers.cancel()
    desk.__exit__()

    questions.put(None)
    assert caplog.records == []
