"""A collector of traces: takes what is sent over OTLP/HTTP on loopback, and keeps it."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Context manager: listens inside.

    Attributes:
        url: base URL to send to.
        paths: that were posted to.
        came: set when something has been sent.
    """

    def __init__(self, *, answers: bool = True) -> None:
        """Listen; with `answers` false it takes connections and lets them wait until it is closed."""
        self._requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.came = threading.Event()
        self._closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.append(self.path)
                collector._requests.append(ExportTraceServiceRequest.FromString(body))
                collector.came.set()
                if not answers:
                    collector._closing.wait()
                    return
                content = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def resource(self) -> dict[str, Any]:
        """What is said of the sender."""
        return values(self._requests[0].resource_spans[0].resource.attributes)

    @property
    def spans(self) -> list[Span]:
        """All that came so far."""
        return list(self._spans())

    def _spans(self) -> Iterator[Span]:
        for request in self._requests:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans


def values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    """Return attributes by name."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}
