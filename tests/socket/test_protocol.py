"""The Open Inference Protocol as public clients speak it: tritonclient (sync, async, aio), plain gRPC, reflection."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.socket.conftest import Scrape, infer_together, sequence, tensor
from tests.support.artefacts import FEATURES
from training.local_server import LocalServer

RNG = np.random.default_rng(7)


def by_hand(repository: Path, model: str, x: np.ndarray, version: int = 1) -> dict[str, np.ndarray]:
    """Compute a model's answer with onnxruntime alone."""
    session = onnxruntime.InferenceSession(repository / model / str(version) / "model.onnx")
    feed = {"x": x, "lengths": np.full(len(x), x.shape[1], np.int64)}
    names = ["steps", "last"]
    return dict(zip(names, session.run(names, feed), strict=True))


def test_server_and_models_say_that_they_are_alive_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("lstm")
    assert client.is_model_ready("lstm", "1")
    assert not client.is_model_ready("tampered")


def test_server_metadata_names_the_server(client: triton.InferenceServerClient) -> None:
    metadata = client.get_server_metadata(as_json=True)

    assert metadata["name"] == "lstm-serve"
    assert metadata["version"]


def test_model_metadata_has_versions_tensors_and_free_axes(client: triton.InferenceServerClient) -> None:
    assert client.get_model_metadata("lstm", as_json=True) == {
        "name": "lstm",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1", str(FEATURES)]}],
        "outputs": [
            {"name": "steps", "datatype": "FP32", "shape": ["-1", "-1", "8"]},
            {"name": "last", "datatype": "FP32", "shape": ["-1", "8"]},
        ],
    }


def test_an_answer_is_what_onnxruntime_alone_computes(client: triton.InferenceServerClient, repository: Path) -> None:
    x = sequence(RNG, 2, 5)
    expected = by_hand(repository, "lstm", x, version=2)

    result = client.infer("lstm", [tensor("x", x)], request_id="abc")

    assert result.get_response().id == "abc"
    assert result.get_response().model_version == "2", "the newest version is the default"
    for name, array in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), array, rtol=1e-5, atol=1e-6)


def test_a_version_and_outputs_can_be_chosen(client: triton.InferenceServerClient, repository: Path) -> None:
    x = sequence(RNG, 1, 4)

    result = client.infer("lstm", [tensor("x", x)], model_version="1", outputs=[triton.InferRequestedOutput("last")])

    assert [output.name for output in result.get_response().outputs] == ["last"]
    np.testing.assert_allclose(result.as_numpy("last"), by_hand(repository, "lstm", x)["last"], rtol=1e-5, atol=1e-6)


def test_lengths_may_be_sent_and_give_each_row_its_own_answer(client: triton.InferenceServerClient) -> None:
    """Padded rows with lengths answer as the same rows sent alone; beyond each length stand zeros."""
    x = sequence(RNG, 3, 6)
    lengths = np.array([6, 2, 4])

    padded = client.infer("lstm", [tensor("x", x), tensor("lengths", lengths)])

    assert padded.as_numpy("steps").shape == (3, 6, 8)
    for row, length in enumerate(lengths):
        alone = client.infer("lstm", [tensor("x", x[row : row + 1, :length])])
        np.testing.assert_allclose(padded.as_numpy("last")[row], alone.as_numpy("last")[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            padded.as_numpy("steps")[row, :length], alone.as_numpy("steps")[0], rtol=1e-5, atol=1e-6
        )
        assert not padded.as_numpy("steps")[row, length:].any()


def test_a_model_of_several_inputs_gets_each_of_them(client: triton.InferenceServerClient) -> None:
    tokens = RNG.integers(0, 9, (2, 3))
    x = sequence(RNG, 2, 3)
    bias = RNG.normal(size=(2, FEATURES)).astype(np.float32)

    result = client.infer("two", [tensor("bias", bias), tensor("x", x), tensor("tokens", tokens)])

    np.testing.assert_allclose(result.as_numpy("y"), tokens[..., None] + x + bias[:, None], rtol=1e-5, atol=1e-5)
    assert result.as_numpy("count").tolist() == [3, 3]


def test_a_stepwise_model_answers_whole_sequences(client: triton.InferenceServerClient) -> None:
    x = sequence(RNG, 1, 9)

    steps = client.infer("causal", [tensor("x", x)]).as_numpy("steps")

    np.testing.assert_allclose(
        client.infer("causal", [tensor("x", x[:, :4])]).as_numpy("steps"), steps[:, :4], rtol=1e-5, atol=1e-6
    )


def test_async_calls_come_back_each_with_its_own_answer(client: triton.InferenceServerClient) -> None:
    inputs = [sequence(RNG, 1, steps) for steps in range(1, 21)]

    answers = infer_together(client, "lstm", inputs)

    for x, answer in zip(inputs, answers, strict=True):
        alone = client.infer("lstm", [tensor("x", x)])
        np.testing.assert_allclose(answer.as_numpy("steps"), alone.as_numpy("steps"), rtol=1e-5, atol=1e-6)


def test_the_asyncio_client_works_unchanged(server: LocalServer) -> None:
    async def call() -> tuple[int, ...]:
        async with triton_aio.InferenceServerClient(server.address) as aio_client:
            result = await aio_client.infer("lstm", [triton_aio_tensor(sequence(RNG, 2, 3))])
            return tuple(result.as_numpy("steps").shape)

    def triton_aio_tensor(x: np.ndarray) -> triton_aio.InferInput:
        made = triton_aio.InferInput("x", list(x.shape), "FP32")
        made.set_data_from_numpy(x)
        return made

    assert asyncio.run(call()) == (2, 3, 8)


def test_a_deadline_that_can_be_met_changes_nothing(client: triton.InferenceServerClient) -> None:
    result = client.infer("lstm", [tensor("x", sequence(RNG, 1, 3))], client_timeout=30.0, timeout=30_000_000)

    assert result.as_numpy("last").shape == (1, 8)


def test_a_plain_grpc_client_may_send_typed_contents(server: LocalServer) -> None:
    request = service_pb2.ModelInferRequest(model_name="lstm")
    x = sequence(RNG, 1, 2)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape).contents.fp32_contents.extend(x.ravel())
    with grpc.insecure_channel(server.address) as channel:
        response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)

    assert [list(output.shape) for output in response.outputs] == [[1, 2, 8], [1, 8]]
    assert len(response.raw_output_contents[0]) == 2 * 8 * 4


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_the_standard_health_service_says_serving(server: LocalServer, service: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_is_enough_to_call_the_server(server: LocalServer) -> None:
    """What grpcurl does: list the services, build the messages from what the server says, call."""
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        pool = DescriptorPool(database)
        answer_type = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ServerReadyResponse"))
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerReady", response_deserializer=answer_type.FromString
        )
        answer = call(b"")

    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services
    assert answer.ready is True


def test_metrics_count_requests_rows_and_batches_per_model_version(
    client: triton.InferenceServerClient, scrape: Scrape
) -> None:
    labels = {"model": "lstm", "version": "1"}
    names = (
        "lstm_requests_total",
        "lstm_request_seconds_count",
        "lstm_engine_run_seconds_count",
        "lstm_batch_rows_sum",
    )
    before = [scrape(name, **labels) for name in names]

    client.infer("lstm", [tensor("x", sequence(RNG, 3, 3))], model_version="1")

    assert [scrape(name, **labels) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 3]
    assert scrape("lstm_ready") == 1
    assert scrape("lstm_cpu_threads") >= 1
    assert scrape("lstm_queue_rows") == 0
