"""Calls of the inference service that this server does not have: told what there is instead.

grpcio by itself says "Method not found!", which reads as if the wrong server had been called. Source of the names:
Triton's grpc_service.proto.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import grpc

from serving.errors import NotOffered, ServingError
from serving.wire.access import Access
from serving.wire.access.rights import Pairs
from serving.wire.status import abort

_NO_SHARED_MEMORY = "it shares no memory with its clients; send tensors as bytes with the request"
INSTEAD = {
    "SystemSharedMemoryStatus": _NO_SHARED_MEMORY,
    "SystemSharedMemoryRegister": _NO_SHARED_MEMORY,
    "SystemSharedMemoryUnregister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryStatus": _NO_SHARED_MEMORY,
    "CudaSharedMemoryRegister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryUnregister": _NO_SHARED_MEMORY,
    "TraceSetting": "what is traced is set where it starts (--tracing-endpoint, --tracing-sample-ratio), and by a "
    "traceparent that comes with a request",
    "LogSettings": "what is logged is set where it starts (--log-level, --log-format, --log-requests)",
}
"""By method: the rest of a sentence."""
Handler = Any
"""grpc.RpcMethodHandler, which is generic in the type stubs only."""


class Unoffered:
    """What is told to calls of the service that nothing else has taken."""

    def __init__(self, service: str, offered: Iterable[str], access: Access) -> None:
        """Speak for a service.

        Args:
            service: its full name.
            offered: methods that it has, which are told to those who call what nobody knows.
            access: says who is told; to others, what there is remains unknown.
        """
        self.prefix = f"/{service}/"
        self._offered = ", ".join(sorted(offered))
        self._access = access

    def error(self, path: str, metadata: Pairs) -> ServingError:
        """Return the answer to a call, by the full name of its method and what it brought beside its messages."""
        method = path.removeprefix(self.prefix)
        try:
            self._access.client(metadata)
        except ServingError as error:
            return error
        if method in INSTEAD:
            return NotOffered(f"this server does not offer {method}: {INSTEAD[method]}")
        return NotOffered(f"this server does not offer this call; it has {self._offered}")


class UnofferedHandler(grpc.GenericRpcHandler):
    """Tells it to calls that grpcio takes, whatever their messages are."""

    def __init__(self, unoffered: Unoffered) -> None:
        self._unoffered = unoffered

    def service(self, handler_call_details: Any) -> Handler | None:  # noqa: ANN401
        """Return what refuses the call, None if it is of another service."""
        path: str = handler_call_details.method
        if not path.startswith(self._unoffered.prefix):
            return None

        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
            abort(context, self._unoffered.error(path, context.invocation_metadata()))

        # A stream may send nothing, one message or many, and none of them is read: it fits a method of any kind.
        return grpc.stream_stream_rpc_method_handler(refuse)
