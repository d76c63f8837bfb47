"""Bytes that are no message are the client's mistake, so they get INVALID_ARGUMENT; grpcio by itself says INTERNAL."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import InvalidRequest
from serving.wire.status import abort

Handler = Any
"""grpc.RpcMethodHandler, which is generic in the type stubs only."""


class Registrar:
    """Takes the methods of a service for a server, as the generated `add_..._to_server` hands them over.

    Wrapping them once, here, costs nothing per call; an interceptor would wrap them anew for each.
    """

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:  # noqa: ANN401  grpcio's own
        """Leave them out: they are the same methods again, for servers that know no registered ones."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the methods with parsers that mark what they cannot parse."""
        wrapped = {name: _marking(handler, f"/{service}/{name}") for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)


def _marking(handler: Handler, method: str) -> Handler:
    parse = handler.request_deserializer

    def parse_or_mark(content: bytes) -> Any:  # noqa: ANN401  a message of the method's type, or the error in its place
        try:
            return parse(content)
        except DecodeError:
            return InvalidRequest(f"the bytes sent to {method} are no such message")

    if handler.request_streaming:  # the stream raises the mark when it comes to it
        return grpc.stream_stream_rpc_method_handler(handler.stream_stream, parse_or_mark, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(
        _refusing(handler.unary_unary), parse_or_mark, handler.response_serializer
    )


def _refusing(behave: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def refuse_or_behave(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  as above
        if isinstance(request, InvalidRequest):
            abort(context, request)
        return behave(request, context)

    return refuse_or_behave
