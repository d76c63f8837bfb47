"""What cannot be: a clear message, an exit code that is not 0, and no stack trace (`loading.end` looks for one)."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.traffic.errors import TrafficError
from loadtests.traffic.options import add_arguments, read_options
from loadtests.traffic.served import read_target
from tests.loadtests.traffic.loading import free_port, run
from training.local_server import LocalServer


@contextmanager
def another_service() -> Iterator[str]:
    """Serve health checks, and nothing of the inference protocol."""
    with ThreadPoolExecutor(2) as threads:
        other = grpc.server(threads)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), other)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        yield f"127.0.0.1:{port}"
        other.stop(None).wait()


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = run(f"127.0.0.1:{free_port()}", tmp_path)

    assert ended.code == 1
    assert "nothing listens on 127.0.0.1" in ended.printed


def test_no_worker_waits_for_a_run_that_cannot_be(tmp_path: Path) -> None:
    ended = run(f"127.0.0.1:{free_port()}", tmp_path, "--processes", "2")

    assert ended.code == 1
    assert "nothing listens on 127.0.0.1" in ended.printed
    assert "heartbeat" not in ended.printed


def test_a_server_of_http_is_told_from_one_of_grpc(server: LocalServer, tmp_path: Path) -> None:
    ended = run(server.metrics_url.removeprefix("http://").removesuffix("/metrics"), tmp_path)

    assert ended.code == 1
    assert "is this the gRPC port" in ended.printed


def test_another_service_is_told(tmp_path: Path) -> None:
    with another_service() as address:
        ended = run(address, tmp_path)

    assert ended.code == 1
    assert "not by the Open Inference Protocol" in ended.printed


def test_a_model_that_is_not_served_is_told_with_those_that_are(server: LocalServer, tmp_path: Path) -> None:
    ended = run(server.address, tmp_path, "--models", "whole,none")

    assert ended.code == 1
    assert "does not serve 'none': NOT_FOUND" in ended.printed
    assert "it serves slow, stepwise, whole" in ended.printed


def test_a_sequence_that_is_too_long_for_its_model_is_told(server: LocalServer, tmp_path: Path) -> None:
    ended = run(server.address, tmp_path, "--models", "whole", "--lengths", "fixed:5000")

    assert ended.code == 1
    assert "'whole' takes sequences of at most 4096 steps" in ended.printed


def test_wrong_usage_is_told(server: LocalServer, tmp_path: Path) -> None:
    ended = run(server.address, tmp_path, "--tempo", "3")

    assert ended.code == 2
    assert "--tempo" in ended.printed


def test_a_folder_that_cannot_be_written_fails_the_run(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run(server.address, tmp_path / "file" / "folder", "--models", "whole", "--seconds", "1", "--check", "1")

    assert ended.code == 1
    assert "the report cannot be written" in ended.printed


def options(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1:8001")
    add_arguments(parser)
    return parser.parse_args(flags)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--host", ""), "--host is missing"),
        (("--seconds", "0"), "--seconds 0: expected a number from 1 to 86400"),
        (("--seconds", "long"), "--seconds long: expected a number"),
        (("--seconds", "nan"), "--seconds nan: expected a number"),
        (("--shape", "zigzag:1"), "--shape zigzag:1: unknown"),
        (("--deadline", "0"), "--deadline 0: expected a number from 0.001"),
        (("--stream-share", "1.5"), "--stream-share 1.5: expected a number from 0 to 1"),
        (("--piece-steps", "0"), "--piece-steps 0: expected a whole number from 1"),
        (("--outstanding", "1.5"), "--outstanding 1.5: expected a whole number"),
        (("--retries", "-1"), "--retries -1: expected a whole number from 0"),
        (("--check", "many"), "--check many: expected a whole number"),
        (("--seed", "-1"), "--seed -1: expected a whole number"),
        (("--models", "a,a"), "names a model twice"),
        (("--models", "a/1,a/2"), "names a model twice"),
        (("--trace", "none.csv"), "none.csv: cannot be read"),
        (("--slo", "none.yaml"), "none.yaml: cannot be read"),
        (("--loop", "closed", "--retries", "2"), "--retries goes with --loop open"),
    ],
)
def test_an_option_that_is_wrong_is_named(flags: tuple[str, ...], why: str) -> None:
    with pytest.raises(TrafficError, match=why):
        read_options(options(*flags))


def test_a_trace_excludes_what_it_decides_itself(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("seconds,model,steps\n1,a,5\n2.5,b,6\n")

    assert read_options(options("--trace", str(path))).models == ("a", "b")
    assert read_options(options("--trace", str(path))).profile.seconds == 2.5
    for flags, why in (
        (("--loop", "closed"), "--trace goes with --loop open"),
        (("--lengths", "fixed:3"), "own lengths"),
    ):
        with pytest.raises(TrafficError, match=why):
            read_options(options("--trace", str(path), *flags))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "localhost:8001"),
        ("10.0.0.7:9000", "10.0.0.7:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("[::1]", "[::1]:8001"),
    ],
)
def test_hosts_may_be_written_as_people_do(host: str, address: str) -> None:
    assert read_target(host).address == address


@settings(deadline=None)
@given(st.text(max_size=30) | st.sampled_from(["http://a:1", "a:0", "a:65536", "a:b", ":8001", "a b:1", "[]:1", "a/b"]))
def test_whatever_a_host_is_it_is_read_or_refused(host: str) -> None:
    with suppress(TrafficError):  # and by nothing else
        target = read_target(host)
        assert target.host
        assert 0 < target.grpc_port < 65536
