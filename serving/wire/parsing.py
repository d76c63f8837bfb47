"""Bytes that are no message are the client's mistake, so they get INVALID_ARGUMENT; grpcio by itself says INTERNAL."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest

_Message = TypeVar("_Message", bound=Message)


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
