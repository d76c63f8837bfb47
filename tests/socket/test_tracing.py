"""Traces: what a collector is sent of requests, whatever else happens to them, and that nothing hangs on a collector."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.socket.collector import Collector, values
from tests.socket.conftest import read_metric, sequence, tensor
from tests.socket.test_logs import GOOD, UNKNOWN_TOKEN
from tests.socket.test_streams import SHORT, request
from tests.support.artefacts import write_lookup
from training.local_server import LocalServer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
UNARY, STREAM = "inference.GRPCInferenceService/ModelInfer", "inference.GRPCInferenceService/ModelStreamInfer"
X = sequence(np.random.default_rng(1), 2, 10)


@contextmanager
def traced(repository: Path, collector: str, *flags: str) -> Iterator[tuple[LocalServer, triton.InferenceServerClient]]:
    """A server that sends to a collector, and a client; when this is left, all has been sent."""
    with (
        LocalServer(repository, "--tracing-endpoint", collector, *flags) as server,
        triton.InferenceServerClient(server.address) as client,
    ):
        yield server, client
    assert server.process.returncode == 0, "".join(server.log)


def roots(collector: Collector) -> list[Span]:
    return [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]


def children(collector: Collector, root: Span) -> list[Span]:
    """In the order of time."""
    found = [span for span in collector.spans if span.parent_span_id == root.span_id]
    return sorted(found, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


def names(spans: list[Span]) -> list[str]:
    return [span.name for span in spans]


def test_a_request_in_chunks_is_told_from_end_to_end(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`paired` runs three steps at a time: four engine calls for ten. Each span begins where the one before ended."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my models")
    headers = {"traceparent": SAMPLED, "tracestate": "vendor=7", "x-request-id": "order-66"}
    with Collector() as collector:
        with traced(repository, collector.url) as (_, client):
            client.infer("paired", [tensor("x", X[:1])], headers=headers)

        (root,) = roots(collector)
        receive, queue, *engine, respond = spans = children(collector, root)
        assert len(collector.spans) == 1 + len(spans)
        assert set(collector.paths) == {"/v1/traces"}
        assert collector.resource["service.name"] == "my models"

    assert (root.name, root.trace_id.hex(), root.parent_span_id.hex()) == (UNARY, TRACE, PARENT)
    assert root.trace_state == "vendor=7"
    assert values(root.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": UNARY,
        "rpc.response.status_code": "OK",
        "lstm.model": "paired",
        "lstm.version": "1",
        "lstm.rows": 1,
        "lstm.steps": 10,
        "lstm.outcome": "ok",
        "lstm.request_id": "order-66",
    }
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert names(spans) == ["receive", "queue", *["engine"] * 4, "respond"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert [values(span.attributes)["lstm.batch.steps"] for span in engine] == [3, 3, 3, 1]
    assert all(values(span.attributes)["lstm.batch.padding_efficiency"] == 1.0 for span in engine)
    assert root.start_time_unix_nano == receive.start_time_unix_nano
    assert receive.end_time_unix_nano == queue.start_time_unix_nano
    assert root.end_time_unix_nano == respond.end_time_unix_nano
    for earlier, later in pairwise(spans):
        assert earlier.start_time_unix_nano <= earlier.end_time_unix_nano <= later.start_time_unix_nano


def test_requests_of_one_batch_are_told_their_own_rows_of_it(repository: Path) -> None:
    """A stream's requests come faster than the engine runs; the rows of each call's spans add up to its batch."""
    sent = [request(SHORT, number=number) for number in range(60)]
    with Collector() as collector:
        with (
            traced(repository, collector.url) as (server, _),
            grpc.insecure_channel(server.address) as channel,
        ):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answers = list(stub.ModelStreamInfer(iter(sent), metadata=[("traceparent", SAMPLED)], timeout=60))
            calls = read_metric(server, "lstm_engine_run_seconds_count", model="causal")

        requests = roots(collector)
        attributes = [span.attributes for span in collector.spans if span.name == "engine"]

    assert len(answers) == len(requests) == 60
    assert {(span.name, span.trace_id.hex(), span.parent_span_id.hex()) for span in requests} == {
        (STREAM, TRACE, PARENT)
    }
    shares = [Fraction(said["lstm.rows"], said["lstm.batch.rows"]) for said in map(values, attributes)]
    assert sum(shares) == calls < 60


@pytest.mark.parametrize(
    ("ratio", "headers", "spans"),
    [
        ("1", {}, 1),
        ("1", {"traceparent": "not a parent"}, 1),
        ("1", {"traceparent": NOT_SAMPLED}, 0),
        ("0", {"traceparent": SAMPLED}, 1),
        ("0", {}, 0),
    ],
)
def test_the_caller_decides_and_the_ratio_where_it_does_not(
    repository: Path, ratio: str, headers: dict[str, str], spans: int
) -> None:
    """What is not sampled leaves no span at all; a second request, which always is, shows that the collector listens."""
    with Collector() as collector:
        with traced(repository, collector.url, "--tracing-sample-ratio", ratio) as (_, client):
            client.infer("lstm", [tensor("x", X)], headers=headers)
            client.infer("alike", [tensor("x", X)], headers={"traceparent": SAMPLED})

        models = [values(span.attributes)["lstm.model"] for span in roots(collector)]
    assert models == ["lstm"] * spans + ["alike"]


def test_a_failed_request_is_told_as_far_as_it_got(tmp_path: Path) -> None:
    """Of the client's mistakes none is an error of the server's span; a fault of the server is."""
    write_lookup(tmp_path)
    sent = [("nobody", UNKNOWN_TOKEN, None), ("lookup", X, None), ("lookup", GOOD, 1), ("lookup", UNKNOWN_TOKEN, None)]
    with Collector() as collector:
        with traced(tmp_path, collector.url) as (server, client):
            for model, tokens, microseconds in sent:
                with pytest.raises(InferenceServerException):
                    client.infer(model, [tensor("tokens", tokens)], timeout=microseconds)

        requests = sorted(roots(collector), key=lambda span: span.start_time_unix_nano)
        told = [names(children(collector, root)) for root in requests]
        (engine,) = (span for span in collector.spans if span.name == "engine")

    assert told == [["receive"], ["receive"], ["receive"], ["receive", "queue", "engine", "respond"]]
    attributes = [values(span.attributes) for span in requests]
    assert [
        (said["rpc.response.status_code"], said["lstm.outcome"], said.get("error.type")) for said in attributes
    ] == [
        ("NOT_FOUND", "not_found", None),
        ("INVALID_ARGUMENT", "invalid", None),
        ("DEADLINE_EXCEEDED", "deadline", "DEADLINE_EXCEEDED"),
        ("INTERNAL", "internal", "INTERNAL"),
    ]
    unset, error = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    assert [span.status.code for span in (*requests, engine)] == [unset, unset, error, error, error]
    failed = attributes[-1]
    assert f"request {failed['lstm.request_id']}" in "".join(server.log)


def test_a_traced_request_is_the_exemplar_of_its_time(repository: Path) -> None:
    with Collector() as collector, traced(repository, collector.url) as (server, client):
        client.infer("lstm", [tensor("x", X)], headers={"traceparent": SAMPLED})
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        page = urllib.request.Request(server.metrics_url, headers=accept)  # noqa: S310  loopback
        with urllib.request.urlopen(page, timeout=10) as content:  # noqa: S310  loopback
            lines = content.read().decode().splitlines()

    exemplars = [line for line in lines if f'# {{trace_id="{TRACE}"}}' in line]
    assert [line.partition("{")[0] for line in exemplars] == ["lstm_request_seconds_bucket"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_collector_that_is_away_or_silent_holds_up_neither_requests_nor_the_end(
    repository: Path, monkeypatch: pytest.MonkeyPatch, *, silent: bool
) -> None:
    """Every span is due at once, so that each request would have its failure; the log takes a few of them."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600" if silent else "0.01")
    with Collector(answers=False) as collector:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with traced(repository, collector.url if silent else away, "--log-format", "json") as (server, client):
            for _ in range(100):
                client.infer("lstm", [tensor("x", X)], headers={"traceparent": SAMPLED})
            assert not silent or collector.came.wait(60)

    complaints = [line for line in server.log if re.search('"level": "(WARNING|ERROR)"', line)]
    ours = sum("refused tampered" in line for line in complaints)
    assert 0 < len(complaints) - ours < 100


def test_without_opentelemetry_the_start_ends_with_what_to_install(repository: Path) -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; from serving.__main__ import main; sys.exit(main(sys.argv[1:]))"
    flags = ["--model-repository", str(repository), "--grpc-port", "0", "--metrics-port", "0"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *flags, "--tracing-endpoint", "http://127.0.0.1:4318"],
        env=os.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert "--tracing-endpoint needs OpenTelemetry" in ended.stderr
    assert "pip install 'lstm-serving[tracing]'" in ended.stderr
    assert "Traceback" not in ended.stderr
