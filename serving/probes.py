"""The HTTP port beside gRPC: `/metrics` for Prometheus, `/readyz` and `/livez` for a kubelet's probes. Plain GETs only.

The form of the metrics (Prometheus' text or OpenMetrics) is negotiated by prometheus_client.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)
CONNECTIONS = 64
"""At a time, each with a thread; when one more comes, the oldest goes, so that idle ones keep no probe out."""
RETRY_SECONDS = 0.5
"""After a connection that could not be taken, because too many files are open; it waits in the kernel."""
SLOWEST_CLIENT_SECONDS = 10
"""A client that takes longer for its next byte is let go, so that none holds a thread for ever."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # a burst beyond it is tried again by the kernel a second later

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  the base class's
        super().__init__(*arguments, **options)
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; the base class would ask at once again for one that cannot be taken, without end."""
        try:
            return super().get_request()
        except OSError as error:
            log.warning(
                "new connections wait: %s; of the descriptors, what holds them is in /proc/%d/fd",
                error.strerror, os.getpid(), extra={"event": "connections_wait"},
            )  # fmt: skip
            time.sleep(RETRY_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  the base class's
        """Answer on a thread."""
        with self._lock:
            if len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it has just ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  the base class's
        """Forget a connection that is over."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002  the base class's
        """Say nothing of clients that leave in the middle of a word; anything else is a fault of ours."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a probe could not be answered", exc_info=error, extra={"event": "probe_fault"})


class _Handler(WSGIRequestHandler):
    timeout = SLOWEST_CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing: probes come every few seconds."""


class ProbeServer:
    """Answers from construction to `stop`."""

    def __init__(self, host: str, port: int, *, metrics: "WSGIApplication", is_ready: Callable[[], bool]) -> None:
        """Bind the port and answer.

        Args:
            host: address to listen on.
            port: 0 takes a free one.
            metrics: answers `/metrics`.
            is_ready: whether the server should get requests.

        Raises:
            OSError: the address cannot be bound.
        """
        self._metrics = metrics
        self._is_ready = is_ready
        try:
            self._server = make_server(host, port, self._answer, _Server, handler_class=_Handler)
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port} for metrics: {error}") from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes")
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environment: "WSGIEnvironment", respond: "StartResponse") -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _text(respond, "405 Method Not Allowed", "only GET is answered here")
        match environment["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environment, respond)
            case "/livez":
                return _text(respond, "200 OK", "alive")
            case "/readyz" if self._is_ready():
                return _text(respond, "200 OK", "ready")
            case "/readyz":
                return _text(respond, "503 Service Unavailable", "not ready")
        return _text(respond, "404 Not Found", "there are /metrics, /readyz and /livez")


def _text(respond: "StartResponse", status: str, text: str) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    respond(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
