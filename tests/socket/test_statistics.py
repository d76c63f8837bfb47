"""ModelStatistics, through Triton's client: the numbers that /metrics shows, and what they must be."""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from training.local_server import LocalServer

RNG = np.random.default_rng(6)
GOOD_ROWS = (1, 2, 3, 2)
BAD = 3
PARTS = ("compute_input", "compute_infer", "compute_output")


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[LocalServer]:
    """A server of its own, so that counts start at zero: four good requests to `causal`, three bad ones."""
    with LocalServer(repository) as running, triton.InferenceServerClient(running.address) as client:
        answers = infer_together(client, "causal", [sequence(RNG, rows, 40) for rows in GOOD_ROWS])
        assert not any(isinstance(answer, InferenceServerException) for answer in answers)
        wrong = np.full((1, 2, 3), np.nan, np.float32)
        refused = infer_together(client, "causal", [wrong] * BAD)
        assert all(isinstance(answer, InferenceServerException) for answer in refused)
        yield running


@pytest.fixture
def asked(served: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.address) as client:
        yield client


def of_causal(client: triton.InferenceServerClient) -> service_pb2.ModelStatistics:
    (told,) = client.get_inference_statistics("causal", "1").model_stats
    return told


def test_good_and_bad_requests_and_rows_are_told_apart(asked: triton.InferenceServerClient) -> None:
    told = of_causal(asked)

    assert (told.name, told.version) == ("causal", "1")
    assert told.inference_stats.success.count == len(GOOD_ROWS)
    assert told.inference_stats.fail.count == BAD
    assert told.inference_stats.queue.count == len(GOOD_ROWS), "what is refused never queues"
    assert told.inference_count == sum(GOOD_ROWS), "a row counts once, whatever the number of its chunks"
    assert told.execution_count >= 1
    assert {getattr(told.inference_stats, part).count for part in PARTS} == {told.execution_count}
    assert told.last_inference > 0


def test_they_are_the_numbers_of_the_metrics(served: LocalServer, asked: triton.InferenceServerClient) -> None:
    told = of_causal(asked)

    def metric(name: str, **labels: str) -> float:
        return read_metric(served, f"lstm_{name}", model="causal", version="1", **labels)

    stats = told.inference_stats
    assert stats.success.count == metric("requests_total", outcome="ok")
    assert stats.fail.count == metric("requests_total", outcome="invalid")
    assert told.inference_count == metric("rows_total")
    assert told.execution_count == metric("engine_run_seconds_count")
    seconds = {
        "success": metric("request_seconds_sum", outcome="ok"),
        "fail": metric("request_seconds_sum", outcome="error"),
        "queue": metric("queue_delay_seconds_sum"),
        "compute_input": metric("pack_seconds_total"),
        "compute_output": metric("scatter_seconds_total"),
    }
    assert {name: getattr(stats, name).ns / 1e9 for name in seconds} == pytest.approx(seconds)
    computed = sum(getattr(stats, part).ns for part in PARTS)
    assert computed / 1e9 == pytest.approx(metric("engine_run_seconds_sum"))
    assert min(getattr(stats, part).ns for part in PARTS) > 0
    assert told.last_inference == int(metric("last_request_timestamp_seconds") * 1000)


def test_no_name_asks_for_every_version_that_serves(asked: triton.InferenceServerClient) -> None:
    told = asked.get_inference_statistics().model_stats

    versions = [(each.name, each.version) for each in told]
    assert versions == sorted(versions)
    assert {("lstm", "1"), ("lstm", "2"), ("causal", "1"), ("two", "1")} <= set(versions)
    assert "tampered" not in {name for name, _ in versions}
    unused = next(each for each in told if each.name == "two")
    assert unused.inference_stats.success.count == 0
    assert unused.last_inference == 0


def test_a_name_asks_for_its_versions_and_a_version_for_one(asked: triton.InferenceServerClient) -> None:
    assert [each.version for each in asked.get_inference_statistics("lstm").model_stats] == ["1", "2"]
    assert [each.version for each in asked.get_inference_statistics("lstm", "2").model_stats] == ["2"]


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("nobody", "", "StatusCode.NOT_FOUND"),
        ("lstm", "9", "StatusCode.NOT_FOUND"),
        ("tampered", "1", "StatusCode.UNAVAILABLE"),
    ],
)
def test_what_does_not_serve_is_an_error(
    asked: triton.InferenceServerClient, name: str, version: str, status: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        asked.get_inference_statistics(name, version)

    assert refused.value.status() == status
    assert f"'{name}'" in refused.value.message()


def test_what_comes_to_no_model_is_counted_without_its_words(served: LocalServer) -> None:
    """Neither bytes that are no message nor an unknown name may make a label."""
    with grpc.insecure_channel(served.address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for content in (b"\xff", service_pb2.ModelInferRequest(model_name="made-up").SerializeToString()):
            with pytest.raises(grpc.RpcError):
                infer(content, timeout=60)

    assert read_metric(served, "lstm_requests_total", model="", version="", outcome="invalid") == 1
    assert read_metric(served, "lstm_requests_total", model="", version="", outcome="not_found") == 1
    assert read_metric(served, "lstm_requests_total", model="made-up") == 0


def test_the_page_comes_in_openmetrics_if_asked_for(served: LocalServer) -> None:
    request = urllib.request.Request(served.metrics_url, headers={"Accept": "application/openmetrics-text"})  # noqa: S310  loopback
    with urllib.request.urlopen(request, timeout=10) as page:  # noqa: S310  loopback
        content_type, text = page.headers["Content-Type"], page.read().decode()

    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "lstm_requests" in {family.name for family in text_string_to_metric_families(text)}


def test_prometheus_finds_nothing_wrong_with_the_page(served: LocalServer) -> None:
    """Its own check of names, units, types and help texts, on what a server that has worked shows."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    with urllib.request.urlopen(served.metrics_url, timeout=10) as page:  # noqa: S310  loopback
        text = page.read()

    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_model_can_be_asked_for_while_it_works(asked: triton.InferenceServerClient) -> None:
    """Its numbers move with each request."""
    before = of_causal(asked)

    asked.infer("causal", [tensor("x", sequence(RNG, 2, 3))])

    after = of_causal(asked)
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_count == before.inference_count + 2
    assert after.execution_count > before.execution_count
    assert after.last_inference >= before.last_inference
