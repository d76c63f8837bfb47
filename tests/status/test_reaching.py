"""The page of metrics, and ports where no lstm-serve is: what is said of each, over real sockets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from prometheus_client import make_wsgi_app

from serving.metrics import ServerMetrics
from serving.probes import ProbeServer
from serving.status import diagnosis, page
from serving.status.calls import Calls
from serving.status.errors import CannotLook, NoMetrics
from serving.status.figures import figures
from serving.status.target import Target

SHORT = 0.2
"""Seconds that a port may stay silent, where it will."""


def target(port: int, *, host: str = "127.0.0.1") -> Target:
    return Target(host=host, grpc_port=port, metrics_port=port)


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port, and hand each connection to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # wakes accept
        thread.join()


@contextmanager
def http(status: int, body: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
        return port


def test_the_page_of_a_real_server_gives_its_figures() -> None:
    metrics = ServerMetrics(cpu_threads=3)
    metrics.model_loaded('odd "name"', "7", 0.1)
    metrics.describe_model('odd "name"', "7", precision="int8", engine="native")
    metrics.request_ended('odd "name"', "7", "ok", 0.003)
    probes = ProbeServer("127.0.0.1", 0, metrics=make_wsgi_app(metrics.registry), is_ready=lambda: True)
    try:
        moment = page.read(target(probes.port))
    finally:
        probes.stop()

    found = figures(moment, None)
    of = found.versions['odd "name"', "7"]
    assert (of.total, of.precision, of.engine) == (1, "int8", "native")
    assert of.mean == pytest.approx(0.003)
    assert found.memory_bytes > 2**20
    assert found.up_seconds == moment.value("lstm_uptime_seconds") > 0


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, b"", "answers with HTTP status 404"),
        (200, b"<html>", "is no page of metrics"),
        (200, b"\xff\xff", "is no page of metrics"),
        (200, b"", "has no metrics of lstm-serve"),
        (200, b"up 1\n", "has no metrics of lstm-serve"),
    ],
)
def test_other_pages_are_told_apart(status: int, body: bytes, text: str) -> None:
    with http(status, body) as port, pytest.raises(NoMetrics, match=text):
        page.read(target(port))


def test_a_port_that_speaks_something_else_has_no_metrics() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0\r\n")

    with answering(answer) as port, pytest.raises(NoMetrics, match="does not speak HTTP"):
        page.read(target(port))
    with pytest.raises(NoMetrics, match="connection refused"):
        page.read(target(closed_port()))


def why(asked: Target) -> str:
    return diagnosis.why(asked, "what gRPC says", seconds=SHORT)


def test_ports_that_answer_otherwise_are_named() -> None:
    assert "nothing listens on" in why(target(closed_port()))
    assert "there is no address for the host" in why(target(1, host="no-such-host.invalid"))
    silent = threading.Event()
    with answering(lambda _: silent.wait() and None) as port:
        assert "takes connections, but answers no call (what gRPC says)" in why(target(port))
        silent.set()
    with http(200, b"") as port:
        assert "not that of the metrics" in why(target(port))


def test_a_grpc_server_of_another_kind_is_named() -> None:
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            Calls(target(port)) as calls,
            pytest.raises(CannotLook, match="answers, but not by the Open Inference Protocol"),
        ):
            calls.server()
    finally:
        server.stop(None).wait()
