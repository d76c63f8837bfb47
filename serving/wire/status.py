"""The one table from our errors to gRPC status codes, and the one place that sends errors."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from serving.errors import (
    Cancelled,
    ClientLimit,
    ControlOff,
    DeadlineExceeded,
    Draining,
    EngineError,
    InvalidRequest,
    LoadRefused,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    QueueFull,
    ServingError,
    StateMismatch,
    Unauthenticated,
)
from serving.wire.completions import Call, Metadata

log = logging.getLogger(__name__)

STATUS_CODES: dict[type[ServingError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    ControlOff: grpc.StatusCode.FAILED_PRECONDITION,
    LoadRefused: grpc.StatusCode.FAILED_PRECONDITION,
    StateMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    ClientLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    EngineError: grpc.StatusCode.INTERNAL,
}
REASON_KEY = "reason"
"""Trailing metadata: tells our RESOURCE_EXHAUSTED from gRPC's own."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata: the client's next attempt waits for so many milliseconds. Source: gRPC proposal A6, retries."""


def abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    """End a call of grpcio's with the error's status, its message and its reason."""
    context.set_trailing_metadata(_metadata(error))
    context.abort(STATUS_CODES[type(error)], str(error))


def finish(call: Call, error: ServingError) -> None:
    """End a call of the front with the error's status, its message and its reason."""
    call.finish(STATUS_CODES[type(error)], str(error), metadata=_metadata(error))


def refuse(call: Call, error: ServingError) -> None:
    """End a call of the front of which nothing has been read, with the error's status, its message and its reason."""
    call.refuse(STATUS_CODES[type(error)], str(error), metadata=_metadata(error))


def as_serving_error(error: Exception) -> ServingError:
    """Return the error itself, or for an unforeseen one what may be told of it; the log has the rest."""
    if isinstance(error, ServingError):
        return error
    fault = uuid.uuid4().hex[:12]
    log.error("fault %s", fault, exc_info=error)
    return EngineError(f"a fault of the server; its log has it as {fault}")


@contextmanager
def errors_as_status(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what is raised inside into a status."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the outermost frame of a call
        abort(context, as_serving_error(error))


def _metadata(error: ServingError) -> Metadata:
    reason = (REASON_KEY, error.reason)
    return (reason,) if error.retry_after_ms is None else (reason, (PUSHBACK_KEY, str(error.retry_after_ms)))
