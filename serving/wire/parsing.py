"""Bytes that are no message are the client's mistake, so they get INVALID_ARGUMENT; grpcio by itself says INTERNAL."""

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import InvalidRequest
from serving.wire.status import abort

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the type stubs only


class _Unparsable:
    """Stands for a request that could not be parsed (grpcio takes None for a failure of its own)."""


class RefuseUnparsable(grpc.ServerInterceptor):
    """Lets unary methods answer unparsable bytes with the status of a malformed request."""

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Handler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wrap the parser and the behaviour of a unary method; leave others and unknown ones as they are."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler
        parse, behave = handler.request_deserializer, handler.unary_unary

        def parse_or_mark(content: bytes) -> Any:  # noqa: ANN401  a message of the method's type, or the mark
            try:
                return parse(content)
            except DecodeError:
                return _Unparsable()

        def refuse_or_behave(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  as above
            if isinstance(request, _Unparsable):
                abort(context, InvalidRequest(f"the bytes sent to {handler_call_details.method} are no such message"))
            return behave(request, context)

        return grpc.unary_unary_rpc_method_handler(refuse_or_behave, parse_or_mark, handler.response_serializer)
