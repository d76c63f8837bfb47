"""A server that says when it wants to be asked again is not asked before."""

# ruff: noqa: ARG002, N802  the methods are those of the protocol

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import grpc

from serving._proto import open_inference_pb2 as oip
from serving._proto import open_inference_pb2_grpc as oip_grpc
from serving.wire.status import PUSHBACK_KEY, REASON_KEY
from tests.loadtests.traffic.loading import run

PUSHBACK_SECONDS = 0.3
CLOCK_SECONDS = 0.01
"""That gevent's timers may be early: they count from when its loop last looked."""


class Full(oip_grpc.GRPCInferenceServiceServicer):
    """A server that has a model and never has room for a request."""

    def ServerReady(self, request: oip.ServerReadyRequest, context: object) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=True)

    def ServerMetadata(self, request: oip.ServerMetadataRequest, context: object) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(name="full", version="1")

    def RepositoryIndex(self, request: oip.RepositoryIndexRequest, context: object) -> oip.RepositoryIndexResponse:
        model = oip.RepositoryIndexResponse.ModelIndex(name="full", version="1", state="READY")
        return oip.RepositoryIndexResponse(models=[model])

    def ModelMetadata(self, request: oip.ModelMetadataRequest, context: object) -> oip.ModelMetadataResponse:
        told = oip.ModelMetadataResponse(name="full", versions=["1"], properties={"precision": "fp32"})
        told.inputs.add(name="x", datatype="FP32", shape=[-1, -1, 2])
        return told

    def ModelConfig(self, request: oip.ModelConfigRequest, context: object) -> oip.ModelConfigResponse:
        return oip.ModelConfigResponse(config=oip.ModelConfig(name="full"))

    def ModelInfer(self, request: oip.ModelInferRequest, context: grpc.ServicerContext) -> oip.ModelInferResponse:
        pushback = (PUSHBACK_KEY, str(round(PUSHBACK_SECONDS * 1000)))
        context.set_trailing_metadata(((REASON_KEY, "queue_full"), pushback))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")


@contextmanager
def full() -> Iterator[str]:
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(Full(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_a_caller_of_a_closed_loop_waits_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    with full() as address:
        ended = run(address, tmp_path, "--loop", "closed", "--shape", "steady:1", "--seconds", "2", "--check", "0")

    due = [float(row["due"]) for row in ended.requests]
    assert {(row["status"], row["reason"]) for row in ended.requests} == {("RESOURCE_EXHAUSTED", "queue_full")}
    assert len(due) >= 2
    assert all(later - earlier > PUSHBACK_SECONDS - CLOCK_SECONDS for earlier, later in pairwise(due))


def test_what_is_sent_again_keeps_its_time_and_comes_after_the_pushback(tmp_path: Path) -> None:
    with full() as address:
        ended = run(
            address,
            tmp_path,
            "--shape",
            "steady:20",
            "--seconds",
            "1",
            "--check",
            "0",
            "--retries",
            "2",
            "--deadline",
            "20",
        )

    assert {row["attempts"] for row in ended.requests} == {"3"}
    assert all(float(row["latency"]) > 2 * (PUSHBACK_SECONDS - CLOCK_SECONDS) for row in ended.requests)
    assert ended.figures["shed"] == ended.figures["due"]
