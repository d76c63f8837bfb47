"""Reflection for those who may call something: what the services are called is told to nobody else."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from serving.wire.access import Access
from serving.wire.status import abort

PREFIX = f"/{reflection.SERVICE_NAME}/"
Handler = Any
"""grpc.RpcMethodHandler, which is generic in the type stubs only."""


class GuardedReflection(grpc.ServerInterceptor):
    """Lets other calls pass as they are."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def intercept_service(self, continuation: Callable[[Any], Handler], details: Any) -> Handler:  # noqa: ANN401
        """Refuse callers without a token that is known, if tokens are asked for."""
        if not details.method.startswith(PREFIX):
            return continuation(details)
        refusal = self._access.refusal(details.invocation_metadata)
        if refusal is None:
            return continuation(details)

        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            abort(context, refusal)

        return grpc.stream_stream_rpc_method_handler(refuse)
