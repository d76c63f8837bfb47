"""Bytes that are no message are the client's mistake, so they get INVALID_ARGUMENT; grpcio by itself says INTERNAL."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.wire import request_ids
from serving.wire.access import Access
from serving.wire.status import errors_as_status

_Message = TypeVar("_Message", bound=Message)
Handler = Any
"""grpc.RpcMethodHandler, which is generic in the type stubs only."""


def parse_as(kind: type[_Message], content: bytes) -> _Message:
    """Read a message.

    Raises:
        InvalidRequest: the bytes are none of this kind.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidRequest(f"the bytes that were sent are no {kind.DESCRIPTOR.name}") from error


def parse(content: bytes) -> oip.ModelInferRequest:
    """Read a request for inference.

    Raises:
        InvalidRequest: the bytes are none.
    """
    return parse_as(oip.ModelInferRequest, content)


def handlers(service: object, methods: Iterable[MethodDescriptor], access: Access) -> dict[str, Handler]:
    """Return grpcio's handlers for unary methods, which the service has by the same names, for those who may call."""
    return {method.name: _handler(getattr(service, method.name), method, access) for method in methods}


def _handler(behave: Callable[[Any], Message], method: MethodDescriptor, access: Access) -> Handler:
    request = GetMessageClass(method.input_type)

    def parse_or_mark(content: bytes) -> Message | InvalidRequest:
        try:
            return parse_as(request, content)
        except InvalidRequest as error:
            return InvalidRequest(str(error))  # the error itself would hold on to its frames

    def refuse_or_behave(message: Message | InvalidRequest, context: grpc.ServicerContext) -> Message:
        request_id = request_ids.sent(context.invocation_metadata())
        if request_id is not None:
            context.set_trailing_metadata(((request_ids.REQUEST_ID_KEY, request_id),))
        with errors_as_status(context):
            if isinstance(message, InvalidRequest):
                raise message
            access.check(method.name, message, context.invocation_metadata(), context.peer())
            return behave(message)

    serialize = GetMessageClass(method.output_type).SerializeToString
    return grpc.unary_unary_rpc_method_handler(refuse_or_behave, parse_or_mark, serialize)
