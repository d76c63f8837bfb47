"""Compressed messages: read as if they were not, and never inflated beyond the limit."""

import zlib
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.manifest import read_manifest
from serving.wire.inflation import GZIP_BITS, ZLIB_BITS, inflated
from tests.support.artefacts import FEATURES, write_lstm
from tests.wire.desk import MESSAGE_BYTES, SECONDS, Desk

WAYS = {"gzip": GZIP_BITS, "deflate": ZLIB_BITS}
STEPS = 1000
COMPRESSIONS = [grpc.Compression.Gzip, grpc.Compression.Deflate]


def compressed(content: bytes, way: str) -> bytes:
    made = zlib.compressobj(wbits=WAYS[way])
    return made.compress(content) + made.flush()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    manifest = read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False))
    with Desk(manifest) as serving:
        yield serving


def request() -> oip.ModelInferRequest:
    x = np.ones((1, STEPS, FEATURES), "<f4")
    made = oip.ModelInferRequest(model_name="lstm", raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return made


@given(st.binary(), st.sampled_from(sorted(WAYS)))
def test_what_was_compressed_comes_back(content: bytes, way: str) -> None:
    assert inflated(compressed(content, way), max_bytes=len(content)) == content


@given(st.binary(), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x78\x9c", b"\x78"]))
def test_other_bytes_stay_as_they_are(content: bytes, begin: bytes) -> None:
    assert inflated(begin + content, max_bytes=1000) == begin + content


@given(st.binary(min_size=1), st.sampled_from(sorted(WAYS)), st.integers(1, 10))
def test_what_lacks_its_end_stays_as_it_is(content: bytes, way: str, missing: int) -> None:
    torn = compressed(content, way)[:-missing]

    assert inflated(torn, max_bytes=len(content)) == torn


@pytest.mark.parametrize("way", WAYS)
def test_a_message_that_inflates_to_too_much_is_refused(way: str) -> None:
    content = compressed(bytes(1001), way)

    assert inflated(content, max_bytes=1001) == bytes(1001)
    with pytest.raises(InvalidRequest, match=r"inflates to more than .*--max-message-mib"):
        inflated(content, max_bytes=1000)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_requests_are_answered(desk: Desk, compression: grpc.Compression) -> None:
    """Unary and in a stream; the answers are those of the plain one."""
    calls = [desk.stub.ModelInfer.future(request(), timeout=SECONDS, compression=way) for way in (None, compression)]
    stream = desk.stub.ModelStreamInfer(iter([request()]), timeout=SECONDS, compression=compression)
    desk.wait_for_waiting(3)
    desk.house.run_all()

    plain, packed = (call.result() for call in calls)
    assert packed == plain
    streamed = next(stream).infer_response
    assert (streamed.outputs, streamed.raw_output_contents) == (plain.outputs, plain.raw_output_contents)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_control_calls_are_answered(desk: Desk, compression: grpc.Compression) -> None:
    """Their messages are so small that only a long name makes compression worth while."""
    name = "n" * 1000
    with pytest.raises(grpc.RpcError) as ended:
        desk.stub.ModelMetadata(oip.ModelMetadataRequest(name=name), timeout=SECONDS, compression=compression)
    assert (ended.value.code(), name in ended.value.details()) == (grpc.StatusCode.NOT_FOUND, True)

    health = health_pb2_grpc.HealthStub(desk.channel)
    with pytest.raises(grpc.RpcError) as ended:
        health.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS, compression=compression)
    assert ended.value.code() is grpc.StatusCode.NOT_FOUND

    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
    asking = reflection_pb2_grpc.ServerReflectionStub(desk.channel)
    (told,) = asking.ServerReflectionInfo(iter([question]), timeout=SECONDS, compression=compression)
    assert told.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata"])
def test_a_bomb_is_refused(desk: Desk, method: str, compression: grpc.Compression) -> None:
    call = desk.channel.stream_stream(f"/inference.GRPCInferenceService/{method}")

    with pytest.raises(grpc.RpcError) as ended:
        list(call(iter([bytes(20 * MESSAGE_BYTES)]), timeout=SECONDS, compression=compression))

    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inflates to more than 1 MiB" in ended.value.details()
