"""The one table from our errors to gRPC status codes, and the one place that sends them."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    EngineError,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    QueueFull,
    ServingError,
)

log = logging.getLogger(__name__)

STATUS_CODES: dict[type[ServingError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    EngineError: grpc.StatusCode.INTERNAL,
}
REASON_KEY = "reason"
"""Trailing metadata: tells our RESOURCE_EXHAUSTED from gRPC's own."""


def abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    """End the call with the error's status, its message and its reason."""
    context.set_trailing_metadata(((REASON_KEY, error.reason),))
    context.abort(STATUS_CODES[type(error)], str(error))


@contextmanager
def errors_as_status(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what is raised inside into a status; an unforeseen exception is logged and leaves as INTERNAL."""
    try:
        yield
    except ServingError as error:
        abort(context, error)
    except Exception:  # the outermost frame of a call
        fault = uuid.uuid4().hex[:12]
        log.exception("fault %s", fault)
        abort(context, EngineError(f"a fault of the server; its log has it as {fault}"))
