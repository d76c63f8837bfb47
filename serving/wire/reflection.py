"""Server reflection (grpc.reflection.v1alpha): what the services and their messages are called."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

SERVICE = cast("ServiceDescriptor", reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
INFO = SERVICE.methods_by_name["ServerReflectionInfo"]


class Reflection:
    """Tells of services, and of whatever their files describe."""

    def __init__(self, services: Iterable[str]) -> None:
        """Tell of these, by full name."""
        self._servicer: Any = reflection.ReflectionServicer(services)
        """Its type asks for a context, of which it makes no use."""

    def answer(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        """Answer one question; that there is no such thing is an answer as well."""
        (answer,) = self._servicer.ServerReflectionInfo(iter((request,)), None)
        return cast("reflection_pb2.ServerReflectionResponse", answer)
