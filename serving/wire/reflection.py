"""Reflection for those who may call something: what the services are called is told to nobody else.

grpcio answers an exception of a handler with its text, and bytes that are no message with INTERNAL, so both are caught
here as they are for the other calls (`serving/wire/parsing.py`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from serving.errors import InvalidRequest
from serving.wire.access import Access
from serving.wire.status import errors_as_status

PREFIX = f"/{reflection.SERVICE_NAME}/"
Handler = Any
"""grpc.RpcMethodHandler, which is generic in the type stubs only."""
GARBAGE = object()
"""What bytes are read as that are no message."""


class GuardedReflection(grpc.ServerInterceptor):
    """Lets other calls pass as they are."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def intercept_service(self, continuation: Callable[[Any], Handler], details: Any) -> Handler:  # noqa: ANN401
        """Refuse callers without a token that is known, if tokens are asked for, before anything is read."""
        handler = continuation(details)
        if handler is None or not details.method.startswith(PREFIX):
            return handler

        def read(content: bytes) -> Any:  # noqa: ANN401  a message
            try:
                return handler.request_deserializer(content)
            except Exception:  # noqa: BLE001  of protobuf, whatever the bytes cause
                return GARBAGE

        def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with errors_as_status(context):
                self._access.client(context.invocation_metadata())
                yield from handler.stream_stream(_messages(requests), context)

        return grpc.stream_stream_rpc_method_handler(behave, read, handler.response_serializer)


def _messages(requests: Iterator[Any]) -> Iterator[Any]:
    try:
        for message in requests:
            if message is GARBAGE:
                raise InvalidRequest("the bytes that were sent are no ServerReflectionRequest")
            yield message
    except grpc.RpcError:  # how grpcio says that the client has left
        return
