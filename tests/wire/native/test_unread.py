"""Clients that do not read, through the native front: what they are owed is bounded, and others do not notice."""

import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.wire.others import SERVICE_NAME
from serving.wire.unread import CALL_BYTES
from tests.support.artefacts import write_lstm
from tests.support.front import needs_front
from tests.wire.deaf import Deaf, eventually
from tests.wire.desk import SECONDS
from tests.wire.test_unread import ANSWER_BYTES, CALLS, request
from training.local_server import LocalServer

pytestmark = needs_front

MIB = 2**20
FITTING = MIB // (ANSWER_BYTES + CALL_BYTES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    models = tmp_path_factory.mktemp("models")
    write_lstm(models, bidirectional=False)
    with LocalServer(models, "--wire", "native", "--max-unread-mib", "1", "--max-message-mib", "1") as running:
        yield running


def deaf_to(server: LocalServer, method: str) -> Deaf:
    port = int(server.address.rpartition(":")[2])
    return Deaf(port, f"/{SERVICE_NAME}/{method}", request().SerializeToString())


def answered(server: LocalServer) -> oip.ModelInferResponse:
    with grpc.insecure_channel(server.address) as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request(), timeout=SECONDS)


def ok(server: LocalServer) -> float:
    """Return how many requests have been answered."""
    with urllib.request.urlopen(server.metrics_url, timeout=SECONDS) as page:  # noqa: S310  loopback
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == "lstm_requests_total" and s.labels["outcome"] == "ok")


@pytest.mark.parametrize("first", ["ModelInfer", "ModelStreamInfer"])
def test_answers_that_nobody_reads_are_bounded_and_the_oldest_go(server: LocalServer, first: str) -> None:
    with ExitStack() as connections:
        before = ok(server)
        deaf = []
        for number, method in enumerate([first, *["ModelInfer"] * CALLS], 1):  # one after the other
            deaf.append(connections.enter_context(deaf_to(server, method)))
            eventually(lambda number=number: ok(server) == before + number)
        for connection in deaf[: CALLS - FITTING]:
            connection.wait_for_the_end()

        assert len(answered(server).raw_output_contents[0]) == ANSWER_BYTES
